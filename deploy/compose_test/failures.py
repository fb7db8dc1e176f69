"""What happens when parts are killed, stopped, scaled, and taken down."""

import re
import threading
import time

import httpx

from deploy.compose_test.answers import ask
from deploy.compose_test.load import MODEL, Load
from deploy.compose_test.project import TWICE, ComposeError, Project
from deploy.compose_test.report import eventually, expect
from llmos.client import Client
from shared.contracts.scheduler import ReplicaStatus

BACK_S = 90.0
"""Within this a killed container is healthy again."""
UNDER_LOAD_S = 4.0
"""Before and after a kill."""


def shared(project: Project, load: Load) -> str:
    """Two gateways and two nodes share the streams."""
    before = _answered(project)
    with load.running():
        time.sleep(3 * UNDER_LOAD_S)
    expect(not load.failures, "; ".join(load.failures[:3]))
    by_replica = {name: count - before.get(name, 0) for name, count in _answered(project).items()}
    busy = [name for name, count in by_replica.items() if count > 0]
    expect(len(load.by_gateway) == 2, f"only {load.by_gateway} answered")
    expect(len(busy) == 2, f"only these replicas answered: {by_replica}")
    nodes = {replica.node for replica in _replicas(project)}
    expect(len(nodes) == 2, f"the replicas are on {nodes}")
    shares = ", ".join(str(count) for _, count in sorted(load.by_gateway.items()))
    return f"{load.summary()}; by gateway: {shares}; tokens by replica: {', '.join(map(str, by_replica.values()))}"


def killed(project: Project, load: Load, service: str) -> str:
    """`kill -9` of a container under eight streams: it comes back, and each request is answered."""
    container = project.containers(service)[0]
    started = project.inspect(container)["State"]["StartedAt"]
    with load.running():
        time.sleep(UNDER_LOAD_S)
        _kill(project, project.inspect(container)["State"]["Pid"])

        def back() -> bool:
            state = project.inspect(container)["State"]
            return state["StartedAt"] != started and _is_healthy(state)

        took = eventually(back, BACK_S, f"{container} is back")
        time.sleep(UNDER_LOAD_S)
    expect(not load.failures, f"{len(load.failures)} failed: {'; '.join(load.failures[:3])}")
    if service != "gateway":
        expect(load.again["after a cut stream"] == 0, load.summary())
    return f"back after {took:.1f} s; {load.summary()}"


def drained(project: Project, service: str) -> str:
    """`docker stop`: streams are answered to the end, and the container ends with 0 within its grace."""
    container = project.containers(service)[0]
    grace = project.inspect(container)["Config"]["StopTimeout"]
    url = f"http://{project.docker('port', project.containers('gateway')[0], '8000/tcp').split()[0]}"
    pieces: list[str] = []
    begun = threading.Event()
    failure: list[Exception] = []
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Write a long story about a lighthouse."}],
        "max_tokens": 300,
        "temperature": 0,
        "stream": True,
    }

    def stream() -> None:
        try:
            headers = {"Authorization": f"Bearer {project.key}"}
            with httpx.stream(
                "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=120
            ) as answer:
                for line in answer.iter_lines():
                    pieces.append(line)
                    begun.set()
        except httpx.HTTPError as error:
            failure.append(error)
        begun.set()

    thread = threading.Thread(target=stream)
    thread.start()
    begun.wait(60)
    began = time.monotonic()
    project.docker("stop", container, timeout=grace + 60)
    took = time.monotonic() - began
    thread.join()
    code = project.inspect(container)["State"]["ExitCode"]
    project.docker("start", container)
    eventually(lambda: _is_healthy(project.inspect(container)["State"]), BACK_S, f"{container} is back")
    expect(not failure and "data: [DONE]" in pieces, f"its stream was cut: {failure}")
    expect(code == 0, f"it ended with {code}")
    expect(took < grace, f"it took {took:.1f} s, its grace is {grace} s")
    return f"the stream ended whole, the container with 0 after {took:.1f} s of {grace} s"


def down_and_up(project: Project) -> str:
    """`down` and `up`: models, keys, deployments and nodes' ids are there, and a request is answered at once."""
    with Client(project.gateways()[0], project.key) as client:
        key = client.create_key("kept", ["inference"])["key"]
    before = _seen(project)
    project.down()
    took = project.up(*TWICE)
    text, _ = ask(project)
    expect("Paris" in text, f"the first answer was {text!r}")
    eventually(lambda: _seen(project) == before, BACK_S, f"the same as before: {before}")
    answer = httpx.get(f"{project.gateways()[0]}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    expect(answer.status_code == 200, f"the key made before is answered {answer.status_code}")
    return f"up again after {took:.1f} s, the first request answered; {before}"


def refused(project: Project) -> str:
    """A second node that would promise the machine again is refused, and says why."""
    project.set(INFERENCE_MEMORY="", INFERENCE_THREADS="")
    try:
        project.up(*TWICE)
    except ComposeError:
        pass
    else:
        raise AssertionError("both nodes started")
    said = project.compose("logs", "--no-color", "inference")
    found = re.search(r"this node would offer .*? together fit", said)
    if found is None:
        raise AssertionError(f"no line says why: {said[-500:]}")
    return found[0]


def _seen(project: Project) -> str:
    with Client(project.gateways()[0], project.key) as client:
        deployments = [
            f"{one.deployment.name}={one.deployment.model}:{one.deployment.version}"
            for one in client.deployments().deployments
        ]
        nodes = sorted(node.status.id for node in client.nodes().nodes)
    return f"deployments {', '.join(sorted(deployments))}; nodes {', '.join(nodes)}"


def _replicas(project: Project) -> list[ReplicaStatus]:
    with Client(project.gateways()[0], project.key) as client:
        return [replica for one in client.deployments().deployments for replica in one.replicas]


def _answered(project: Project) -> dict[str, float]:
    """Tokens that each replica has generated, from a gateway's metrics."""
    headers = {"Authorization": f"Bearer {project.key}"}
    text = httpx.get(f"{project.gateways()[0]}/metrics", headers=headers, timeout=30).text
    lines = (line for line in text.splitlines() if line.startswith("llmos_replica_generated_tokens_total{"))
    return {line.partition('replica="')[2].partition('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def _is_healthy(state: dict[str, object]) -> bool:
    health = state.get("Health")
    if isinstance(health, dict):
        return bool(health["Status"] == "healthy")
    return state["Status"] == "running"


def _kill(project: Project, pid: int) -> None:
    """SIGKILL as the kernel sends it: unlike `docker kill`, the engine does not take it for a wish to stop."""
    program = f"import os, signal; os.kill({pid}, signal.SIGKILL)"
    privileged = ["run", "--rm", "--pid=host", "--user=0", "--network=none", "--entrypoint=python"]
    project.docker(*privileged, "llmos/registry", "-P", "-c", program)
