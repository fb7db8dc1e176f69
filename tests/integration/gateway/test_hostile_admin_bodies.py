"""No body and no path of the admin API is our fault either."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from services.gateway.app import gateway
from services.gateway.settings import Settings as GatewaySettings
from services.registry.app import app as registry
from services.registry.settings import Settings as RegistrySettings
from services.scheduler.app import app as scheduler
from services.scheduler.settings import Settings as SchedulerSettings
from shared.bus.memory.bus import MemoryBus
from shared.service.context import Context
from shared.service.readiness import Readiness
from shared.storage.open import open_store
from tests.support.factories.hostile_bodies import hostile_bodies, paths, replaced
from tests.support.factories.manifests import manifest_of, uploaded
from tests.support.harness.in_thread import in_thread

PREFIX = "/llmos/v1"
FILES = {"model.onnx": b"x", "tokenizer.json": b"{}"}
VERSION: dict[str, Any] = {"manifest": json.loads(manifest_of(FILES).model_dump_json()), "aliases": ["prod"]}
BODIES: list[tuple[str, dict[str, Any]]] = [
    (f"POST {PREFIX}/models/a/versions", VERSION),
    (
        f"POST {PREFIX}/deployments",
        {
            "reference": "a",
            "name": "a",
            "replicas": 1,
            "max_len": 64,
            "slots": 2,
            "threads": 1,
            "device": "cpu",
            "prefix_cache": 0,
            "draft_tokens": 1,
            "max_wait": 5.0,
        },
    ),
    (f"PUT {PREFIX}/models/a/aliases/prod", {"version": 1}),
    (f"POST {PREFIX}/garbage", {"dry_run": True}),
    (f"POST {PREFIX}/keys", {"name": "n", "scopes": ["inference"]}),
]


@asynccontextmanager
async def services(folder: Path) -> AsyncIterator[str]:
    """Gateway, registry and scheduler on one bus; yields the URL."""
    bus, store = MemoryBus(), f"file://{folder}"
    nats: dict[str, Any] = {"nats_url": "nats://127.0.0.1:1"}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.drain)

        def context(name: str) -> Context:
            return Context(name, f"{name}-a", bus, Readiness())

        await stack.enter_async_context(registry(context("registry"), RegistrySettings(**nats, store_url=store)))
        await stack.enter_async_context(scheduler(context("scheduler"), SchedulerSettings(**nats)))
        chosen = GatewaySettings(**nats, store_url=store, port=0, grpc_port=0, auth="off", drain_timeout=1.0)
        await uploaded(open_store(store), FILES)
        yield await stack.enter_async_context(gateway(context("gateway"), chosen))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        in_thread(services(tmp_path_factory.mktemp("store"))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        assert client.post(f"{PREFIX}/models/a/versions", json=VERSION).status_code == 200
        yield client


def check(client: httpx.Client, route: str, body: bytes) -> None:
    answer = client.request(*route.split(), content=body)
    assert answer.status_code < 500, f"{answer.status_code} {answer.text}\n{body[:1000]!r}"


@pytest.mark.parametrize(("route", "body"), BODIES, ids=range(len(BODIES)))
def test_the_bodies_are_right_as_they_are(client: httpx.Client, route: str, body: dict[str, Any]) -> None:
    answer = client.request(*route.split(), json=body)
    assert answer.status_code == 200, answer.text


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_body=hostile_bodies(BODIES))
def test_values_that_no_library_takes_are_never_our_fault(
    client: httpx.Client, given_body: tuple[str, bytes]
) -> None:
    check(client, *given_body)


@pytest.mark.parametrize("value", ["9223372036854775808", "9" * 5000, "1e400", '"' + "9" * 5000 + '"'], ids=range(4))
def test_numbers_that_no_library_takes_are_never_our_fault(client: httpx.Client, value: str) -> None:
    for route, body in BODIES:
        for path in paths(body):
            check(client, route, replaced(body, {path: value}))


@pytest.mark.parametrize(
    "path",
    [
        "/models/%ff",
        "/models/%ED%A0%BD",
        "/models/a%00",
        "/models/a:" + "9" * 5000,
        "/models/" + "a" * 5000,
        "/deployments/%3E",
        "/deployments/a.%2A",
        "/keys/%00",
        "/traces?limit=" + "9" * 5000,
        "/traces?limit=%ff",
        "/traces/" + "g" * 32,
        "/blobs/" + "%ED%A0%BD" * 10,
    ],
    ids=range(12),
)
def test_no_path_is_our_fault(client: httpx.Client, path: str) -> None:
    for method in ("GET", "DELETE", "HEAD"):
        answer = client.request(method, PREFIX + path)
        assert 400 <= answer.status_code < 500, f"{method} {answer.status_code} {answer.text}"
