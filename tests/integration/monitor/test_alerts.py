"""A monitor on a real bus raises alerts: listed, recorded, and told to an Alertmanager."""

import asyncio
from pathlib import Path

import pytest

from services.monitor.alerts import watch
from services.monitor.app import app
from services.monitor.settings import Settings
from shared.bus.connect import connect
from shared.bus.rpc import call
from shared.contracts.base import Empty
from shared.contracts.monitor import LIST_ALERTS, AlertState
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment
from shared.service.context import Context
from shared.service.readiness import Readiness
from tests.support.harness.alertmanager import alertmanager
from tests.support.harness.events import events_of
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer


async def test_what_is_missing_is_an_alert_an_event_and_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "EVERY_S", 0.1)
    with NatsServer() as server, alertmanager() as (url, heard):
        file = tmp_path / "alerts.toml"
        file.write_text(
            f'[webhook]\nurl = "{url}"\nrepeat_s = 1\n'
            "[rules.replicas_missing]\nfor_s = 0.5\n[rules.no_leader]\nenabled = false\n"
        )
        client = await connect(server.url, name="client")
        await client.kv(DEPLOYMENTS_BUCKET).put(
            "chat", Deployment.EXAMPLE.model_copy(update={"name": "chat"}).encode()
        )
        bus = await connect(server.url, name="monitor")
        context = Context("monitor", "monitor-1", bus, Readiness())
        settings = Settings(nats_url=server.url, folder=None, alerts_file=file)
        try:
            async with app(context, settings):

                async def firing() -> list[tuple[str, str]]:
                    listed = await call(client, LIST_ALERTS, Empty(), timeout=5)
                    return [
                        (alert.rule, alert.labels.get("model", ""))
                        for alert in listed.alerts
                        if alert.state is AlertState.FIRING
                    ]

                async def fires() -> bool:
                    return await firing() == [("replicas_missing", "chat")]

                await eventually(fires, timeout=20)
                (event,) = await events_of(client, kind="alert.fired")
                assert (event.service, event.name, event.detail["model"]) == ("monitor", "replicas_missing", "chat")
                await eventually(lambda: heard, timeout=20)
                path, body = heard[0]
                assert path == "/api/v2/alerts"
                assert body[0]["labels"]["alertname"] == "llmos_replicas_missing"
                times = len(heard)
                await eventually(lambda: len(heard) > times, timeout=20)
        finally:
            await asyncio.gather(bus.drain(), client.drain())
