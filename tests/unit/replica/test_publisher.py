"""Frames reach the bus in the order in which the engine made them."""

from services.inference.replica.generate.publisher import Publisher
from shared.bus.memory.bus import MemoryBroker, MemoryBus
from shared.bus.port import OBJECT_THRESHOLD
from shared.contracts.gateway import Frame, FrameBatch, frames_subject
from tests.support.harness.wait import eventually

LARGE = "x" * OBJECT_THRESHOLD


def batch(seq: int, text: str = "") -> FrameBatch:
    return FrameBatch(replica_id="r", frames=(Frame(request_id="a", seq=seq, text=text),))


async def test_a_large_batch_is_not_overtaken() -> None:
    broker = MemoryBroker()
    bus, gateway, seen = MemoryBus(broker), MemoryBus(broker), []
    await gateway.subscribe(frames_subject("g"), lambda message: seen.append(FrameBatch.decode(message.data)))
    async with Publisher(bus).running() as publisher:
        sent = [batch(seq, LARGE if seq in (2, 3) else "") for seq in range(6)]
        for each in sent:
            publisher.send("g", each)
    await eventually(lambda: len(seen) == len(sent))
    assert seen == sent
    await gateway.drain()
    await bus.drain()


async def test_after_a_large_batch_small_ones_go_at_once_again() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    async with Publisher(bus).running() as publisher:
        publisher.send("g", batch(0, LARGE))
        await eventually(lambda: not publisher.waiting)
        publisher.send("g", batch(1))
        assert not publisher.waiting
    await bus.drain()


async def test_frames_are_dropped_while_the_bus_is_down() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    broker.stop()
    async with Publisher(bus).running() as publisher:
        publisher.send("g", batch(0))
        await eventually(lambda: not publisher.waiting)
    await bus.drain()
