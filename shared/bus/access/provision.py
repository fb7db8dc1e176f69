"""Makes every bucket, stream and consumer: `python -m shared.bus.access.provision`.

`LLMOS_NATS_URL` is the bus with the owner's password. What is there and as it should be stays untouched; what an
earlier version made is changed in place. Exit code 0: all is there. 1: it is not; the last line says why.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.bus.access.stored import BUCKETS, STREAMS
from shared.bus.nats.bus import NatsBus
from shared.deadlines import BUS_CONNECT_S
from shared.errors import LlmosError


async def provision(url: str, *, timeout: float = BUS_CONNECT_S, leases_in_memory: bool = False) -> None:
    """Make what the tables in `stored` list.

    Args:
        url: The bus, with the owner's password.
        timeout: Seconds to wait for a server that is not there yet.
        leases_in_memory: Whether leases need no disk; then this is to be called after each start of the server.

    Raises:
        LlmosError: The bus can't be reached, or the user may not do this.
    """
    async with owner(url, timeout=timeout, leases_in_memory=leases_in_memory) as bus:
        await make_all(bus)


@asynccontextmanager
async def owner(
    url: str, *, timeout: float = BUS_CONNECT_S, leases_in_memory: bool = False
) -> AsyncIterator[NatsBus]:
    """A connection with the owner's password, drained on the way out. The arguments are those of `provision`."""
    bus = NatsBus(url, name="bus-init", owner=True, leases_in_memory=leases_in_memory)
    await bus.open(timeout)
    try:
        yield bus
    finally:
        await bus.drain()


async def make_all(bus: NatsBus) -> None:
    """Make what is missing, on an owner's connection."""
    await asyncio.gather(
        bus.make_object_store(),
        *(bus.kv(bucket.name, ttl=bucket.ttl).make() for bucket in BUCKETS),
        *(
            bus.stream(one.name, [one.subject], max_bytes=one.max_bytes, max_age=one.max_age).make(
                [name for name, _ in one.consumers]
            )
            for one in STREAMS
        ),
    )


def main() -> None:
    """Make all; exit."""
    try:
        asyncio.run(provision(os.environ.get("LLMOS_NATS_URL", "nats://127.0.0.1:4222")))
    except LlmosError as error:
        sys.exit(f"the bus is not complete: {error.message}")


if __name__ == "__main__":
    main()
