"""Connects a process to the bus."""

from collections.abc import Callable

from shared.bus.nats.bus import NatsBus
from shared.bus.port import Bus
from shared.deadlines import BUS_CONNECT_S


async def connect(
    url: str,
    *,
    name: str,
    timeout: float = BUS_CONNECT_S,
    owner: bool = False,
    why_no_changes: Callable[[], str | None] = lambda: None,
) -> Bus:
    """The bus at `nats://[user:password@]host:port` (several servers: separated by commas).

    A server that is not there yet is tried again for `timeout` seconds, then `Disconnected` is raised; once
    connected, the bus reconnects without end. A malformed URL is `InvalidInput`. `name` stands in the server's logs.
    The `owner` of the bus makes buckets and streams on first use; all others need those that
    `shared.bus.access.provision` made. While `why_no_changes` has a reason, writing a record is refused with it.
    """
    bus = NatsBus(url, name=name, owner=owner, why_no_changes=why_no_changes)
    await bus.open(timeout)
    return bus
