"""What concerns NATS alone: addresses, credentials, permissions, a server that hangs or throws us out."""

import asyncio

import pytest
from structlog.testing import capture_logs

from shared.bus.connect import connect
from shared.bus.nats.bus import RESPOND_CONCURRENCY
from shared.bus.port import Bus, KvOperation, Message
from shared.errors import Disconnected, InvalidInput, PermissionDenied
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

USERS = """
authorization {
  users = [
    { user: admin, password: "s3cret%@" }
    { user: gateway, password: pass, permissions: {
        publish: ["allowed.>", "_INBOX.>", "$JS.API.>"], subscribe: ["allowed.>", "_INBOX.>"] } }
  ]
}
"""


async def echo(message: Message) -> bytes:
    return message.data


def ignore(message: Message) -> None:
    pass


async def test_no_server_is_disconnected_after_the_time_given() -> None:
    with NatsServer(start=False) as server, pytest.raises(Disconnected, match="LLMOS_NATS_URL"):
        await connect(server.url, name="test", timeout=0.6)


async def test_connecting_waits_for_a_server_that_comes_up_late() -> None:
    with NatsServer(start=False) as server, capture_logs() as logs:
        connecting = asyncio.create_task(connect(server.url, name="test", timeout=20))
        await eventually(lambda: [log for log in logs if log["event"] == "bus.connection_error"])
        await asyncio.to_thread(server.start)
        bus = await connecting
        assert bus.connected
        await bus.drain()


@pytest.mark.parametrize("url", ["", "http://host:1", "nats://", "nats://host:port"])
async def test_malformed_address_is_invalid_input(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await connect(url, name="test", timeout=1)
    assert caught.value.param == "url"


async def test_credentials_come_from_the_url_and_stay_out_of_the_log() -> None:
    with NatsServer(config=USERS) as server, capture_logs() as logs:
        bus = await connect(server.url_for("admin", "s3cret%25%40"), name="test", timeout=5)
        await bus.respond("anything", echo)
        assert await bus.request("anything", b"x", timeout=5) == b"x"
        await bus.drain()
        with pytest.raises(Disconnected, match=r"(?i)authorization") as caught:
            await connect(server.url_for("admin", "wrong-password"), name="test", timeout=2)
    assert "wrong-password" not in caught.value.message
    assert "wrong-password" not in str(logs)
    assert "s3cret" not in str(logs)


async def test_a_refused_subscription_is_an_error_and_in_the_log() -> None:
    with NatsServer(config=USERS) as server, capture_logs() as logs:
        bus = await connect(server.url_for("gateway", "pass"), name="gateway-1", timeout=5)
        with pytest.raises(PermissionDenied, match=r"secret\.plans"):
            await bus.subscribe("secret.plans", ignore)
        await bus.respond("allowed.a", echo)
        assert await bus.request("allowed.a", b"x", timeout=5) == b"x"
        await bus.drain()
    denials = [log for log in logs if log["event"] == "bus.permission_denied"]
    assert denials
    assert denials[0]["log_level"] == "error"
    assert "secret.plans" in denials[0]["error"]


async def test_a_refused_publish_is_in_the_log_and_a_refused_request_an_error() -> None:
    with NatsServer(config=USERS) as server, capture_logs() as logs:
        bus = await connect(server.url_for("gateway", "pass"), name="gateway-1", timeout=5)
        await bus.publish("Secret.Plans", b"x")
        await eventually(lambda: any("secret.plans" in str(log.get("error")) for log in logs))
        with pytest.raises(PermissionDenied, match=r"secret\.question"):
            await bus.request("secret.question", b"", timeout=0.5)
        assert bus.connected
        await bus.drain()


async def test_a_subscriber_who_gives_up_before_the_server_confirms_does_not_break_the_connection(bus: Bus) -> None:
    await bus.respond("steady", echo)
    with capture_logs() as logs:
        for turns in range(40):
            giving_up = asyncio.create_task(bus.subscribe(f"given-up.{turns}", ignore))
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            giving_up.cancel()
            await asyncio.wait([giving_up])
            assert await bus.request("steady", b"x", timeout=5) == b"x"
    assert [log for log in logs if log["log_level"] in {"warning", "error"}] == []


async def test_a_message_dropped_by_a_slow_consumer_is_logged() -> None:
    # The real client drops when a subscription's queue is full; only its limit is made small here.
    with NatsServer() as server, capture_logs() as logs:
        bus = await connect(server.url, name="test", timeout=5, owner=True)
        release = asyncio.Event()

        async def responder(_: Message) -> bytes:
            await release.wait()
            return b""

        subscription = await bus.respond("t", responder)
        subscription._inner._pending_queue._maxsize = 5
        for _ in range(RESPOND_CONCURRENCY + 20):
            await bus.publish("t", b"")
        await eventually(lambda: any(log["event"] == "bus.slow_consumer" for log in logs))
        assert next(log for log in logs if log["event"] == "bus.slow_consumer")["subject"] == "t"
        release.set()
        await bus.drain()


async def test_a_server_that_throws_us_out_is_connected_to_again() -> None:
    """A protocol error makes the server close, and nats-py give up for good."""
    with NatsServer() as server:
        bus = await connect(server.url, name="test", timeout=5, owner=True)
        await bus.respond("t", echo)
        async with bus.kv("B").watch() as events:
            assert (await anext(events)).operation is KvOperation.SYNCED
            before = bus._connection.client
            before._transport.write(b"NONSENSE\r\n")
            await eventually(lambda: bus._connection.client is not before and bus.connected)
            assert await bus.request("t", b"x", timeout=5) == b"x"
            await bus.kv("B").put("k", b"v")
            async with asyncio.timeout(10):
                assert [(await anext(events)).operation for _ in range(2)][-1] in (
                    KvOperation.PUT,
                    KvOperation.SYNCED,
                )
        await bus.drain()


async def test_watch_is_not_fresh_while_the_server_hangs() -> None:
    with NatsServer() as server:
        bus = await connect(server.url, name="test", timeout=5, owner=True)
        async with bus.kv("B").watch() as events:
            await anext(events)
            assert events.fresh
            server.pause()
            await eventually(lambda: not events.fresh, timeout=6)
            server.resume()
            async with asyncio.timeout(15):
                while not events.fresh:
                    await anext(events)
        await bus.drain()


async def test_buckets_and_streams_come_back_after_the_server_lost_its_store() -> None:
    with NatsServer() as server:
        bus, seen = await connect(server.url, name="test", timeout=5, owner=True), []
        bucket, stream = bus.kv("B"), bus.stream("S", ["events.>"], max_bytes=1 << 20, max_age=60)

        async def handler(message: Message) -> None:
            seen.append(message.data)

        await bucket.put("k", b"v")
        await stream.consume(handler, durable="d")
        await bus.publish("events.a", b"event")
        await eventually(lambda: seen == [b"event"])
        await bus._jetstream.manager.delete_stream("KV_B")
        await bus._jetstream.manager.delete_stream("S")
        await bucket.put("k", b"again")
        assert await stream.last(1) == []
        await bus.publish("events.a", b"event again")
        await eventually(lambda: seen == [b"event", b"event again"])
        await bus.drain()


async def test_drain_cancels_a_handler_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.nats.bus.HANDLERS_DRAIN_S", 0.2)
    with NatsServer() as server, capture_logs() as logs:
        bus = await connect(server.url, name="test", timeout=5, owner=True)
        started = asyncio.Event()

        async def responder(_: Message) -> bytes:
            started.set()
            await asyncio.Event().wait()
            return b""

        await bus.respond("t", responder)
        await bus.publish("t", b"")
        await started.wait()
        async with asyncio.timeout(5):
            await bus.drain()
    assert next(log for log in logs if log["event"] == "bus.drain_incomplete")["handlers_cancelled"] == 1
