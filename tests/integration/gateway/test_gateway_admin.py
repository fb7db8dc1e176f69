"""The admin routes, in front of stand-ins that answer the services' subjects."""

import asyncio
import hashlib
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from shared.bus import rpc
from shared.contracts import monitor, registry, scheduler
from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import NAME_RULE, Manifest
from shared.errors import NotFound
from tests.integration.gateway.conftest import ADMIN_KEY, Stand
from tests.support.harness.wait import eventually


async def answer_with(stand: Stand, endpoint: Endpoint, answer: Contract | Exception, heard: list[Contract]) -> None:
    async def handler(request: Contract) -> Contract:
        heard.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await rpc.respond(stand.bus, endpoint, handler)


async def test_models_and_deployments_are_translated_to_their_services(stand: Stand) -> None:
    heard: list[Contract] = []
    for endpoint in (
        registry.MODELS.list,
        registry.MODELS.create,
        registry.MODELS.resolve,
        registry.MODELS.set_alias,
        registry.MODELS.delete,
        registry.DATASETS.list,
        registry.DATASETS.create,
        registry.DATASETS.resolve,
        registry.DATASETS.delete,
        registry.REPORTS.resolve,
        registry.COLLECT_GARBAGE,
        scheduler.DEPLOY,
        scheduler.ROLLBACK,
        scheduler.UNDEPLOY,
        scheduler.SHOW_DEPLOYMENT,
        scheduler.LIST_DEPLOYMENTS,
        scheduler.LIST_NODES,
        monitor.GET_HEALTH,
        monitor.LIST_TRACES,
    ):
        assert endpoint.response.EXAMPLE is not None
        await answer_with(stand, endpoint, endpoint.response.EXAMPLE, heard)
    assert Manifest.EXAMPLE is not None
    assert DatasetManifest.EXAMPLE is not None
    manifest, rows = orjson.loads(Manifest.EXAMPLE.encode()), orjson.loads(DatasetManifest.EXAMPLE.encode())
    calls = [
        ("GET", "/models", None, Empty()),
        (
            "POST",
            "/models/m/versions",
            {"manifest": manifest, "aliases": ["prod"]},
            registry.CreateModelVersion(name="m", manifest=Manifest.EXAMPLE, aliases=("prod",)),
        ),
        ("GET", "/models/m@prod", None, registry.ResolveReference(reference="m@prod")),
        ("GET", "/models/m:3", None, registry.ResolveReference(reference="m:3")),
        ("PUT", "/models/m/aliases/prod", {"version": 3}, registry.SetAlias(name="m", alias="prod", version=3)),
        ("DELETE", "/models/m/aliases/prod", None, registry.SetAlias(name="m", alias="prod", version=None)),
        ("DELETE", "/models/m:3", None, registry.DeleteVersion(reference="m:3")),
        ("GET", "/datasets", None, Empty()),
        (
            "POST",
            "/datasets/d/versions",
            {"manifest": rows},
            registry.CreateDatasetVersion(name="d", manifest=DatasetManifest.EXAMPLE),
        ),
        ("GET", "/datasets/d:2", None, registry.ResolveReference(reference="d:2")),
        ("DELETE", "/datasets/d:2", None, registry.DeleteVersion(reference="d:2")),
        ("GET", "/reports/r", None, registry.ResolveReference(reference="r")),
        ("POST", "/garbage", {}, registry.CollectGarbage(dry_run=True)),
        ("POST", "/garbage", {"dry_run": False, "grace": 60}, registry.CollectGarbage(dry_run=False, grace=60)),
        ("GET", "/deployments", None, Empty()),
        (
            "POST",
            "/deployments",
            {"reference": "m@prod", "replicas": 2},
            scheduler.Deploy(reference="m@prod", replicas=2),
        ),
        ("POST", "/deployments/m/rollback", None, scheduler.Rollback(name="m")),
        ("GET", "/deployments/m", None, scheduler.DeploymentName(name="m")),
        ("DELETE", "/deployments/m", None, scheduler.DeploymentName(name="m")),
        ("GET", "/nodes", None, Empty()),
        ("GET", "/health", None, Empty()),
        ("GET", "/traces?limit=5", None, monitor.ListTraces(limit=5)),
    ]
    for method, path, body, request in calls:
        answer = await stand.client.request(method, f"/llmos/v1{path}", json=body)
        assert answer.status_code == 200, (path, answer.text)
        asked = heard[-1]
        if hasattr(asked, "by"):
            assert asked.by.startswith("key-"), "who asks is known to the services"
            asked = asked.model_copy(update={"by": ""})
        assert asked == request


async def test_a_service_that_is_down_is_503_and_named(stand: Stand) -> None:
    answer = await stand.client.get("/llmos/v1/deployments")
    assert answer.status_code == 503
    assert "the scheduler service is not running" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"] == "2"


async def test_a_services_error_keeps_its_code(stand: Stand) -> None:
    await answer_with(stand, registry.MODELS.resolve, NotFound("there is no model 'm'; models: a"), [])
    answer = await stand.client.get("/llmos/v1/models/m")
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "there is no model 'm'; models: a"


async def test_a_defect_is_500_with_an_id(stand: Stand) -> None:
    await answer_with(stand, registry.MODELS.list, RuntimeError("boom"), [])
    answer = await stand.client.get("/llmos/v1/models")
    assert answer.status_code == 500
    assert "boom" not in answer.text


async def test_misspelt_fields_and_wrong_values_are_refused(stand: Stand) -> None:
    cases = [
        ("POST", "/deployments", {"reference": "m", "replica": 3}, "replica"),
        ("POST", "/deployments", {"reference": "m", "replicas": -1}, "replicas"),
        ("PUT", "/models/m/aliases/prod", {"version": "three"}, "version"),
        ("POST", "/garbage", {"dry-run": False}, "dry-run"),
        ("POST", "/garbage", {"grace": -1}, "grace"),
        ("POST", "/garbage", {"grace": 6e16}, "grace"),
        ("PUT", "/models/m/aliases/Not%20Good", {"version": 3}, "alias"),
        ("POST", "/keys", {"name": "x", "scopes": ["root"]}, "scopes.0"),
        ("GET", "/traces?limit=many", None, "limit"),
        ("GET", "/traces?limit=5000", None, "limit"),
        ("GET", f"/traces?limit={'9' * 5000}", None, "limit"),
        ("POST", "/deployments", {"reference": "m", "threads": 10**20}, "threads"),
        ("POST", "/deployments", {"reference": "m", "prefix_cache": 10**20}, "prefix_cache"),
        ("POST", "/deployments", {"reference": "m", "max_len": 10**20}, "max_len"),
        ("GET", "/traces?lmit=5", None, "lmit"),
        ("GET", "/traces/xyz", None, "trace_id"),
        ("GET", "/blobs/xyz", None, "digest"),
    ]
    for method, path, body, param in cases:
        answer = await stand.client.request(method, f"/llmos/v1{path}", json=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["error"]["param"] == param, answer.text


@pytest.mark.parametrize(
    "name", ["../models/victim", "..", ".", "m/aliases/prod", "a b", "*", ">", "%2F", "é", "\x00", "a" * 5000, "A"]
)
async def test_a_name_with_odd_characters_reaches_its_own_route_and_no_other(stand: Stand, name: str) -> None:
    heard: list[Contract] = []
    for endpoint in (scheduler.UNDEPLOY, registry.MODELS.delete, registry.MODELS.resolve, registry.MODELS.set_alias):
        await answer_with(stand, endpoint, NotFound(f"there is no {name!r}"), heard)
    part = quote(name, safe="")
    # The client would resolve dots: it gets them encoded, as a proxy may hand them on.
    part = {".": "%2E", "..": "%2E%2E"}.get(part, part)
    calls = [
        ("DELETE", f"/llmos/v1/deployments/{part}", scheduler.DeploymentName(name=name)),
        ("DELETE", f"/llmos/v1/models/{part}", registry.DeleteVersion(reference=name)),
        ("GET", f"/llmos/v1/models/{part}", registry.ResolveReference(reference=name)),
        ("DELETE", f"/llmos/v1/models/{part}/aliases/a", registry.SetAlias(name=name, alias="a")),
    ]
    for method, path, request in calls:
        answer = await stand.client.request(method, path)
        assert answer.status_code == 404, (path, answer.text)
        assert heard.pop() == request
    for method, path in [
        ("DELETE", f"/llmos/v1/keys/{part}"),
        ("GET", f"/v1/models/{part}"),
        ("GET", f"/llmos/v1/blobs/{part}"),
        ("GET", f"/llmos/v1/traces/{part}"),
        ("PUT", f"/llmos/v1/models/m/aliases/{part}"),
    ]:
        answer = await stand.client.request(method, path, json={"version": "none"})
        assert answer.status_code in (400, 404), (path, answer.text)
    assert not heard


async def test_a_model_that_does_not_exist_is_named_whole(stand: Stand) -> None:
    answer = await stand.client.get("/v1/models/org%2Fname%252F")
    assert answer.status_code == 404
    assert "the model 'org/name%2F' does not exist" in answer.json()["error"]["message"]


async def test_an_encoded_slash_opens_no_route(stand: Stand) -> None:
    for path in ("/v1%2Fmodels", "/llmos/v1%2Fkeys", "/llmos%2fv1/keys", "/v1/..%2Fllmos/v1/keys"):
        answer = await stand.client.get(path)
        assert answer.status_code == 404, path
        assert path in answer.json()["error"]["message"]


async def test_the_rule_for_names_is_said_in_words(stand: Stand) -> None:
    answer = await stand.client.post("/llmos/v1/deployments", json={"reference": "m", "name": "Upper"})
    assert answer.json()["error"]["message"] == f"name: expected {NAME_RULE} (got 'Upper')"


async def test_a_trace_is_passed_on_byte_for_byte(stand: Stand) -> None:
    document = monitor.TraceDocument(otlp_json='{"resourceSpans":  []}', spans=0)
    await answer_with(stand, monitor.GET_TRACE, document, [])
    answer = await stand.client.get(f"/llmos/v1/traces/{'ab' * 16}")
    assert answer.text == document.otlp_json


async def test_blobs_go_up_once_come_down_whole_and_are_verified(stand: Stand) -> None:
    data = b"weights" * 1_000_000
    digest = hashlib.sha256(data).hexdigest()
    path = f"/llmos/v1/blobs/{digest}"
    assert (await stand.client.head(path)).status_code == 404
    first = await stand.client.put(path, content=data)
    assert (first.status_code, first.json()) == (201, {"digest": digest, "size": len(data)})
    assert (await stand.client.put(path, content=data)).status_code == 200
    head = await stand.client.head(path)
    assert head.status_code == 200
    assert head.headers["content-length"] == str(len(data))
    assert (await stand.client.get(path)).content == data
    wrong = await stand.client.put(f"/llmos/v1/blobs/{'0' * 64}", content=b"other bytes")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["code"] == "corrupt_file"
    assert (await stand.client.head(f"/llmos/v1/blobs/{'0' * 64}")).status_code == 404


async def test_the_openapi_document_describes_every_route(stand: Stand) -> None:
    document = (await stand.client.get("/llmos/v1/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    for path, methods in document["paths"].items():
        filled = path.replace("{", "").replace("}", "")
        for method in methods:
            answer = await stand.client.request(method, filled)
            assert answer.status_code != 405, path
            assert "the routes are in" not in answer.text, (path, answer.text)
    text = orjson.dumps(document).decode()
    for reference in {part.split('"')[0] for part in text.split('"$ref":"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


async def test_an_upload_that_breaks_off_leaves_nothing(stand: Stand) -> None:
    data = b"weights" * 1_000_000
    digest = hashlib.sha256(data).hexdigest()
    host, port = stand.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /llmos/v1/blobs/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n"
    writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
    await writer.drain()
    await eventually(lambda: files(stand))
    writer.transport.abort()
    await eventually(lambda: not files(stand))
    assert (await stand.client.head(f"/llmos/v1/blobs/{digest}")).status_code == 404


def files(stand: Stand) -> list[Path]:
    return [path for path in (stand.folder / "store").rglob("*") if path.is_file() and path.stat().st_size]
