"""What docker-compose.yml describes, run as plain processes: no Docker engine is needed, no container is tested."""

import json
import sys
from collections.abc import Iterator

import httpx
import nats
import pytest

from llmos.client import Client, wait_ready
from llmos.importing import import_model
from llmos.progress import no_progress
from shared.bus.connect import connect
from shared.bus.nats.objects import OBJECTS_STREAM
from shared.contracts.registry import MODELS
from shared.contracts.scheduler import Deploy
from shared.errors import Disconnected, InvalidInput, PermissionDenied
from tests.support.harness.commands import run_commands
from tests.support.harness.compose import SERVICES
from tests.support.harness.deployment import Deployment
from tests.support.harness.embedded import BRIEF, until
from tests.support.harness.wait import eventually
from tests.support.models.smollm2 import smollm2_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
QUESTION = [
    {"role": "system", "content": BRIEF},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("compose")) as running:
        yield running


def test_every_service_passes_its_health_check(deployment):
    assert {service: deployment.health(service) for service in SERVICES} == dict.fromkeys(SERVICES, (True, "ready"))


def deploy_smollm2(client: Client) -> None:
    """Import and deploy it, unless it is deployed."""
    if any(one.deployment.name == "smollm2" for one in client.deployments().deployments):
        return
    version = import_model(client, str(smollm2_gguf()), "smollm2", progress=no_progress).version
    client.deploy(Deploy(reference=version.reference, name="smollm2", slots=4, max_len=2048))
    for _ in wait_ready(client, "smollm2", 120):
        pass


def test_a_model_is_brought_in_deployed_and_answers_through_the_gateway(deployment):
    with Client(deployment.url, deployment.admin_key) as client:
        deploy_smollm2(client)
        answer = "".join(d.text for d in client.chat("smollm2", QUESTION, temperature=0, max_tokens=16))
        health = client.health().instances
    assert "Paris" in answer
    assert {item.heartbeat.service for item in health if item.up and item.heartbeat.ready} == {*SERVICES, "replica"}
    assert "Violation" not in deployment.log("nats")  # every service has the permissions that it uses
    # The node's own health file is not its replica's.
    assert deployment.health("inference") == (True, "ready")


def test_the_demo_is_healthy_once_smollm2_answers(deployment):
    with deployment.demo() as deployed:
        until(deployed.exists, 240, "the demo has deployed SmolLM2")
    with Client(deployment.url, deployment.admin_key) as client:
        answer = "".join(d.text for d in client.chat("smollm2", QUESTION, temperature=0, max_tokens=16))
    assert "Paris" in answer


def test_a_node_runs_a_program_prepares_rows_and_evaluates_once_it_has_a_key(deployment, tmp_path):
    rows = [{"messages": [{"role": "user", "content": "Capital of France?"}], "references": ["Paris"]}]
    (tmp_path / "team.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Client(deployment.url, deployment.admin_key) as client:
        deploy_smollm2(client)
        key = client.create_key("jobs", ["inference", "read"])["key"]
    admin = {"LLMOS_URL": deployment.url, "LLMOS_API_KEY": deployment.admin_key, "LLMOS_HOME": str(tmp_path / "home")}
    evaluation = ["evaluate", "smollm2", "--suite", "team", "--name", "by-job"]
    imported, run, prepared, without_key = run_commands(
        [
            ["data", "import", str(tmp_path / "team.jsonl"), "--name", "team", "--as", "evaluation"],
            ["job", "run", "--base", "smollm2", "--", sys.executable, "-c", "import os; print(os.listdir('inputs'))"],
            ["data", "prepare", "team", "--near", "0.8", "--job", "--name", "prepared"],
            evaluation,
        ],
        admin,
    )
    assert [imported.code, run.code, prepared.code] == [0, 0, 0], (imported, run, prepared)
    assert "model-smollm2-1-hf" in run.out
    assert without_key.code == 1
    assert "job-key is empty; put a key into it, of 'llmos key create jobs" in without_key.err
    (deployment.root / "deploy/secrets/job-key").write_text(key + "\n", encoding="utf-8")
    (evaluated,) = run_commands([evaluation], admin)
    assert evaluated.code == 0, evaluated
    assert "exact_match" in evaluated.out
    assert "Violation" not in deployment.log("nats")


def test_the_gateway_asks_for_a_key(deployment):
    assert httpx.get(f"{deployment.url}/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("service", "subject"),
    [
        ("registry", "llmos.v1.scheduler.deploy"),
        ("registry", "$KV.LLMOS_TENANTS.key"),
        ("scheduler", "llmos.v1.replica.r1.generate"),
        ("scheduler", "$KV.LLMOS_MODELS.smollm2"),
        ("inference", "llmos.v1.registry.delete"),
        ("inference", "$KV.LLMOS_DEPLOYMENTS.smollm2"),
        ("gateway", "llmos.v1.load.r1"),
        ("gateway", "$KV.LLMOS_ASSIGNMENTS.node"),
        ("monitor", "llmos.v1.scheduler.deploy"),
        ("monitor", "$JS.API.STREAM.DELETE.LLMOS_EVENTS"),
        ("monitor", "$JS.API.STREAM.MSG.DELETE.KV_LLMOS_TENANTS"),
        ("gateway", "$JS.API.STREAM.PURGE.KV_LLMOS_MODELS"),
        ("scheduler", "$JS.API.STREAM.SNAPSHOT.KV_LLMOS_TENANTS"),
    ],
)
async def test_a_service_cannot_say_what_is_another_services_to_say(deployment, service, subject):
    bus = await connect(deployment.bus_url(service), name="intruder")
    try:
        with pytest.raises(PermissionDenied):
            await bus.request(subject, b"{}", timeout=0.5)
    finally:
        await bus.drain()


async def test_a_large_message_is_given_up_when_it_was_read(deployment):
    async def nothing_left() -> bool:
        return (await streams.stream_info(OBJECTS_STREAM)).state.messages == 0

    bus = await connect(deployment.bus_url("gateway"), name="large")
    client = await nats.connect(deployment.bus_url("init-bus"))
    streams = client.jetstream()
    try:
        with pytest.raises(InvalidInput):
            await bus.request(MODELS.resolve.subject, b"x" * (3 << 20), timeout=20)
        await eventually(nothing_left, 10)
    finally:
        await client.close()
        await bus.drain()


async def test_nobody_gets_onto_the_bus_without_a_password(deployment):
    with pytest.raises(Disconnected):
        await connect(f"nats://127.0.0.1:{deployment.nats_port}", name="stranger", timeout=2)


async def test_a_service_that_loses_its_bus_is_no_longer_healthy(deployment):
    deployment.pause("nats")
    try:
        await eventually(lambda: not deployment.health("scheduler")[0], 40)
    finally:
        deployment.resume("nats")
    await eventually(lambda: deployment.health("scheduler")[0], 40)
