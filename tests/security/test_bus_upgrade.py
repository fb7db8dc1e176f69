"""A home that LLMOS made before its bus had accounts keeps all that it stored."""

from pathlib import Path

import nats
from nats.js.api import ConsumerConfig, DiscardPolicy, StreamConfig

from llmos.embedded.nats import adopt_streams
from shared.bus.access.roles import Role
from shared.bus.connect import connect
from shared.bus.port import KvOperation
from tests.support.harness.wait import eventually
from tests.support.nats.accounts import AccountsServer
from tests.support.nats.server import NatsServer


async def earlier_state(folder: Path) -> None:
    """Streams in the global account, in the form of LLMOS 0.1: no republishing, no expiry of single messages."""
    with NatsServer(folder, config="debug: false") as server:
        client = await nats.connect(server.url)
        streams = client.jetstream()
        for bucket in ("LLMOS_TENANTS", "LLMOS_MODELS"):
            await streams.add_stream(
                StreamConfig(
                    name=f"KV_{bucket}",
                    subjects=[f"$KV.{bucket}.>"],
                    max_msgs_per_subject=1,
                    discard=DiscardPolicy.NEW,
                    allow_rollup_hdrs=True,
                    allow_msg_ttl=True,
                    allow_direct=True,
                    deny_delete=True,
                )
            )
            await streams.publish(f"$KV.{bucket}.kept", b"from before")
        await streams.add_stream(
            StreamConfig(
                name="LLMOS_OBJECTS",
                subjects=["llmos.v1.objects.>"],
                max_age=300,
                max_bytes=512 << 20,
                max_msgs_per_subject=1,
                discard=DiscardPolicy.NEW,
                allow_direct=True,
            )
        )
        await streams.add_stream(
            StreamConfig(
                name="LLMOS_TELEMETRY",
                subjects=["llmos.v1.telemetry.>"],
                max_bytes=256 << 20,
                max_age=86400,
                allow_direct=True,
            )
        )
        await client.jsm().add_consumer("LLMOS_TELEMETRY", ConsumerConfig(durable_name="monitor"))
        await client.close()
        server.stop()


async def test_what_was_stored_is_read_written_and_watched_after_the_upgrade(tmp_path):
    await earlier_state(tmp_path)
    adopt_streams(tmp_path)
    with AccountsServer(tmp_path) as server:
        gateway = await connect(server.url_of(Role.GATEWAY), name="gateway")
        bucket = gateway.kv("LLMOS_TENANTS")
        async with bucket.watch() as events:
            first = [await anext(events), await anext(events)]
            assert [(event.operation, event.key) for event in first] == [
                (KvOperation.PUT, "kept"),
                (KvOperation.SYNCED, ""),
            ]
            assert first[0].value == b"from before"
            await bucket.update("kept", b"changed", first[0].revision)
            assert (await anext(events)).value == b"changed"
        registry = await connect(server.url_of(Role.REGISTRY), name="registry")

        async def length(message):
            return str(len(message.data)).encode()

        await registry.respond("llmos.v1.registry.list_models", length)
        assert await gateway.request("llmos.v1.registry.list_models", b"x" * 900_000, timeout=10) == b"900000"
        await gateway.drain()
        await registry.drain()


async def test_the_monitor_goes_on_reading_where_it_stopped(tmp_path):
    await earlier_state(tmp_path)
    adopt_streams(tmp_path)
    with AccountsServer(tmp_path) as server:
        monitor = await connect(server.url_of(Role.MONITOR), name="monitor")
        seen = []

        async def note(message):
            seen.append(message.data)

        stream = monitor.stream("LLMOS_TELEMETRY", ["llmos.v1.telemetry.>"], max_bytes=256 << 20, max_age=86400)
        await stream.consume(note, durable="monitor")
        await monitor.publish("llmos.v1.telemetry.traces", b"span")
        await eventually(lambda: seen == [b"span"])
        await monitor.drain()


def test_streams_of_the_owner_are_never_replaced(tmp_path):
    (tmp_path / "jetstream/$G/streams/OLD").mkdir(parents=True)
    (tmp_path / "jetstream/owner/streams/NEW").mkdir(parents=True)
    adopt_streams(tmp_path)
    assert (tmp_path / "jetstream/owner/streams/NEW").is_dir()
    assert (tmp_path / "jetstream/$G/streams/OLD").is_dir()
