"""Answers and errors on the wire, addresses, and contracts over the bus."""

import pytest

from shared.bus.memory.bus import MemoryBus
from shared.bus.nats.connection import Address
from shared.bus.replies import ERROR_HEADER, error_reply, unwrap
from shared.bus.rpc import call, respond
from shared.contracts.monitor import GET_TRACE, GetTrace, TraceDocument
from shared.errors import Internal, InvalidInput, LlmosError, NotFound


def test_an_answer_without_the_header_is_data() -> None:
    assert unwrap(b"x", None) == b"x"
    assert unwrap(b"x", {"Other": "y"}) == b"x"


def test_an_error_is_raised_again_as_its_class() -> None:
    reply = error_reply(NotFound("no model 'a'; there are: b", param="model"))
    with pytest.raises(NotFound, match="no model 'a'; there are: b") as caught:
        unwrap(reply.data, reply.headers)
    assert caught.value.param == "model"


def test_an_error_that_does_not_parse_is_internal() -> None:
    with pytest.raises(Internal, match="overloaded"):
        unwrap(b"not json", {ERROR_HEADER: "overloaded"})


def test_a_code_from_a_newer_peer_is_internal() -> None:
    with pytest.raises(Internal, match="strange"):
        unwrap(b'{"code": "brand_new", "message": "strange"}', {ERROR_HEADER: "brand_new"})


def test_addresses() -> None:
    assert Address.parse("nats://127.0.0.1:4333") == Address(["nats://127.0.0.1:4333"])
    assert Address.parse("localhost") == Address(["nats://localhost:4222"])
    assert Address.parse("nats://u:p%40%2F@a:1, nats://b") == Address(
        ["nats://a:1", "nats://b:4222"], user="u", password="p@/"
    )
    assert Address.parse("nats://t0ken@[::1]:5") == Address(["nats://[::1]:5"], token="t0ken")
    assert "p" not in str(Address.parse("nats://u:p@h:1")).removeprefix("nats://h")


async def test_contracts_over_the_bus() -> None:
    bus = MemoryBus()

    async def handler(request: GetTrace) -> TraceDocument:
        return TraceDocument(otlp_json=request.trace_id, spans=3)

    await respond(bus, GET_TRACE, handler)
    assert await call(bus, GET_TRACE, GetTrace(trace_id="ab"), timeout=1) == TraceDocument(otlp_json="ab", spans=3)
    with pytest.raises(InvalidInput) as caught:
        await bus.request(GET_TRACE.subject, b'{"trace_id": 7}', timeout=1)
    assert caught.value.param == "trace_id"
    await bus.drain()


async def test_drained_connections_of_one_broker_do_not_disturb_the_others() -> None:
    one = MemoryBus()
    two = MemoryBus(one.broker)
    await one.drain()
    assert not one.connected
    assert two.connected
    with pytest.raises(LlmosError):
        await two.request("nobody", b"", timeout=1)
    await two.drain()
