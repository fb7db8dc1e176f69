"""Makes every bucket, stream and consumer: `python -m shared.bus.access.provision`.

`LLMOS_NATS_URL` is the bus with the owner's password. What is there and as it should be stays untouched; what an
earlier version made is changed in place. Exit code 0: all is there. 1: it is not; the last line says why.
"""

import asyncio
import os
import sys

from shared.bus.access.stored import BUCKETS, STREAMS
from shared.bus.nats.bus import NatsBus
from shared.deadlines import BUS_CONNECT_S
from shared.errors import LlmosError


async def provision(url: str, *, timeout: float = BUS_CONNECT_S) -> None:
    """Make what the tables in `stored` list.

    Args:
        url: The bus, with the owner's password.
        timeout: Seconds to wait for a server that is not there yet.

    Raises:
        LlmosError: The bus can't be reached, or the user may not do this.
    """
    bus = NatsBus(url, name="bus-init", owner=True)
    await bus.open(timeout)
    try:
        await asyncio.gather(
            bus.make_object_store(),
            *(bus.kv(bucket.name, ttl=bucket.ttl, max_bytes=bucket.max_bytes).make() for bucket in BUCKETS),
            *(
                bus.stream(one.name, [one.subject], max_bytes=one.max_bytes, max_age=one.max_age).make(
                    [name for name, _ in one.consumers]
                )
                for one in STREAMS
            ),
        )
    finally:
        await bus.drain()


def main() -> None:
    """Make all; exit."""
    try:
        asyncio.run(provision(os.environ.get("LLMOS_NATS_URL", "nats://127.0.0.1:4222")))
    except LlmosError as error:
        sys.exit(f"the bus is not complete: {error.message}")


if __name__ == "__main__":
    main()
