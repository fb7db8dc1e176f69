"""What a healthy deployment does: answers, keeps files, traces, metrics."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx

from deploy.compose_test.load import MODEL
from deploy.compose_test.project import Project
from deploy.compose_test.report import eventually, expect
from llmos.cli.demo import demo_gguf
from llmos.client import Client
from llmos.importing import import_model
from llmos.progress import no_progress
from shared.contracts.scheduler import Deploy
from shared.errors import Unavailable

QUESTION = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
READY_S = 240.0
_TRACE_S = 30.0
_LIST = """
import json, os
from minio import Minio
client = Minio("minio:9000", os.environ["KEY"], os.environ["SECRET"], secure=False)
print(json.dumps({one.object_name: one.size for one in client.list_objects("llmos", recursive=True)}))
"""
_READ = """
import os
from minio import Minio
client = Minio("minio:9000", os.environ["KEY"], os.environ["SECRET"], secure=False)
print(client.get_object("llmos", os.environ["OBJECT"]).read().decode())
"""
_TRY = """
import io, json, os
from minio import Minio
from minio.error import S3Error
client = Minio("minio:9000", os.environ["KEY"], os.environ["SECRET"], secure=False)
blob, manifest = os.environ["BLOB"], os.environ["MANIFEST"]

def tried(call):
    try:
        call()
    except S3Error as error:
        return error.code
    return "allowed"

print(json.dumps({
    "read a blob": tried(lambda: client.stat_object("llmos", blob)),
    "read a manifest": tried(lambda: client.stat_object("llmos", manifest)),
    "write a blob": tried(lambda: client.put_object("llmos", "blobs/sha256/00/tried", io.BytesIO(b"x"), 1)),
    "write a manifest": tried(lambda: client.put_object("llmos", "manifests/tried/1.json", io.BytesIO(b"x"), 1)),
    "remove a manifest": tried(lambda: client.remove_object("llmos", "manifests/tried/2.json")),
    "make a bucket": tried(lambda: client.make_bucket("tried")),
}))
"""
_MAY = {
    "registry": {"read a blob", "read a manifest", "write a manifest", "remove a manifest"},
    "gateway": {"read a blob", "write a blob"},
    "inference": {"read a blob", "read a manifest"},
    "jobs": {"read a blob", "read a manifest", "write a blob"},
}


def deploy(project: Project, replicas: int) -> str:
    """Import SmolLM2 and deploy it; what is unavailable for a while is asked for again."""
    with Client(project.gateways()[0], project.key) as client:
        version = import_model(client, str(demo_gguf()), MODEL, progress=no_progress).version
        deployment = Deploy(reference=version.reference, name=MODEL, replicas=replicas, slots=8, max_len=1024)

        def deployed() -> bool:
            try:
                client.deploy(deployment)
                status = client.deployment(MODEL)
            except Unavailable:
                return False
            return status.ready == replicas

        took = eventually(deployed, READY_S, f"{replicas} replicas ready")
    return f"{version.reference} in {replicas} replicas, ready after {took:.1f} s"


def ask(project: Project) -> tuple[str, str]:
    """A question through the first published port: the answer, and its trace."""
    body = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    answer = httpx.post(
        f"{project.gateways()[0]}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {project.key}"},
        timeout=60,
    )
    expect(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:300]}")
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-trace-id"]


def chat(project: Project) -> str:
    """A question is answered."""
    text, _ = ask(project)
    expect("Paris" in text, f"it answered {text!r}")
    return f"{project.gateways()[0]} answered {text!r}"


def stored(project: Project) -> str:
    """The version's files are in the S3 server, read with the `minio` client in the registry's image."""
    objects = _objects(project)
    manifest = json.loads(_in_store(project, _READ, *_root(project), OBJECT=_manifest(objects)))
    sizes = {file["digest"]: file["size"] for file in manifest["files"]}
    for digest, size in sizes.items():
        there = objects.get(f"blobs/sha256/{digest[:2]}/{digest}")
        expect(there == size, f"blob {digest[:12]} has {there} bytes, expected {size}")
    return f"{len(sizes)} blobs of {sum(sizes.values())} bytes, and {_manifest(objects)}"


def users(project: Project) -> str:
    """Each service's user may do in the store what the service does, and nothing else."""
    objects = _objects(project)
    blob = next(name for name in objects if name.startswith("blobs/"))
    for user, may in _MAY.items():
        secret = project.env[f"S3_SECRET_{user.upper()}"]
        tried = json.loads(_in_store(project, _TRY, user, secret, BLOB=blob, MANIFEST=_manifest(objects)))
        for deed, came in tried.items():
            expected = "allowed" if deed in may else "AccessDenied"
            expect(came == expected, f"user {user}: {deed}: {came}, expected {expected}")
    return "; ".join(f"{user} may {', '.join(sorted(may))}" for user, may in _MAY.items())


def root_is_not_used(project: Project) -> str:
    """Only MinIO and the one-shots that set up the store and the bus have MinIO's root password."""
    root = project.env["S3_SECRET_KEY"]
    have = {
        project.inspect(name)["Config"]["Labels"]["com.docker.compose.service"]
        for name in project.containers(ended=True)
        if any(root in variable for variable in project.inspect(name)["Config"]["Env"])
    }
    expect(have <= {"minio", "init-store", "init-bus"}, f"in {sorted(have)}")
    return f"only in {' and '.join(sorted(have))}"


def traced(project: Project) -> str:
    """The trace of a chat is whole in Jaeger."""
    _, trace = ask(project)
    url = f"http://127.0.0.1:{project.jaeger_port}/api"
    found: list[dict[str, Any]] = []

    def whole() -> bool:
        answer = httpx.get(f"{url}/traces/{trace}", timeout=10)
        found[:] = _spans(answer.json()["data"]) if answer.status_code == 200 else []
        known = {span["id"] for span in found}
        return (
            len(found) > 1
            and {"gateway", "replica"} <= {span["service"] for span in found}
            and all(span["parent"] in known for span in found if span["parent"])
        )

    eventually(whole, _TRACE_S, "one trace with the spans of gateway and replica, and no parent missing")
    counts = Counter(span["service"] for span in found)
    known = httpx.get(f"{url}/services", timeout=10).json()["data"]
    shown = ", ".join(f"{count} of {service}" for service, count in sorted(counts.items()))
    return f"trace {trace}: {shown}; no parent missing; services that Jaeger knows: {', '.join(sorted(known))}"


def _spans(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "id": span["spanID"],
            "parent": next((one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"), None),
            "service": trace["processes"][span["processID"]]["serviceName"],
        }
        for trace in data
        for span in trace["spans"]
    ]


def scraped(project: Project) -> str:
    """Prometheus has each gateway's metrics, with a key that may only read."""
    with Client(project.gateways()[0], project.key) as client:
        key = client.create_key("metrics", ["read"])["key"]
    (project.tree / "deploy/secrets/metrics-key").write_text(f"{key}\n", encoding="utf-8")
    url = f"http://127.0.0.1:{project.prometheus_port}/api/v1"
    gateways = len(project.gateways())

    def up() -> bool:
        try:
            targets = httpx.get(f"{url}/targets", timeout=10).json()["data"]["activeTargets"]
        except httpx.HTTPError:
            return False
        return [target["health"] for target in targets] == ["up"] * gateways

    eventually(up, 60, f"{gateways} gateways scraped")
    query = {"query": 'sum(llmos_http_requests_total{status="200"})'}

    def counted() -> bool:
        result = httpx.get(f"{url}/query", params=query, timeout=10).json()["data"]["result"]
        return bool(result) and float(result[0]["value"][1]) > 0

    eventually(counted, 60, "requests counted")
    return f"{gateways} gateways up, requests counted"


def _manifest(objects: Mapping[str, int]) -> str:
    return next(name for name in objects if name.startswith(f"manifests/{MODEL}/"))


def _objects(project: Project) -> dict[str, int]:
    found: dict[str, int] = json.loads(_in_store(project, _LIST, *_root(project)))
    return found


def _root(project: Project) -> tuple[str, str]:
    return project.env["S3_ACCESS_KEY"], project.env["S3_SECRET_KEY"]


def _in_store(project: Project, program: str, key: str, secret: str, **variables: str) -> str:
    """The output of a program with the `minio` client on the network of the store, which nobody outside reaches."""
    given = {"KEY": key, "SECRET": secret, **variables}
    options = [word for name, value in given.items() for word in ("--env", f"{name}={value}")]
    network = f"--network={project.name}_store"
    run = ["run", "--rm", network, *options, "--entrypoint=python", "llmos/registry", "-P", "-c", program]
    return project.docker(*run)
