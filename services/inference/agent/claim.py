"""One agent per node id: two would each end what the other runs."""

import asyncio
import os
import socket

import structlog
from pydantic import ValidationError

from shared.bus.port import KeyValue, KvOperation
from shared.contracts.scheduler import LEASE_TTL_S, NodeStatus
from shared.errors import Conflict

CHECK_S = 0.25
GRACE_S = 1.0
"""How much longer than a lease's time to live a silent record is waited for."""

_log = structlog.get_logger("llmos.agent")


async def claim(nodes: KeyValue, status: NodeStatus, *, silence: float = LEASE_TTL_S + GRACE_S) -> None:
    """Write the node's record; from then on the id is ours.

    A record that nobody renews for `silence` seconds is that of a dead agent. One that was written on this machine by
    a process that has ended is taken over at once.

    Raises:
        Conflict: Another agent has the id.
    """
    for _ in range(3):  # whoever is beaten to it looks again
        try:
            await _claim(nodes, status, silence)
        except _Beaten:
            continue
        return
    raise Conflict(f"several agents start as node {status.id!r}; {_ADVICE}", param="LLMOS_INFERENCE_NODE_ID")


async def yield_to_successor(nodes: KeyValue, status: NodeStatus) -> None:
    """Run until another agent has the node: it started while this one was taken for dead.

    Raises:
        Conflict: That is so.
    """
    async with nodes.watch() as events:
        async for event in events:
            if event.operation is not KvOperation.PUT or event.key != status.id:
                continue
            other = _decode(event.value)
            if other is not None and other.instance != status.instance and other.started_at > status.started_at:
                raise _taken(other, "took over node")


class _Beaten(Exception):
    """Another wrote the record first."""


_ADVICE = "give each its own LLMOS_INFERENCE_NODE_ID"


async def _claim(nodes: KeyValue, status: NodeStatus, silence: float) -> None:
    entry = await nodes.get(status.id)
    holder = None if entry is None else _decode(entry.value)
    if entry is not None and holder is not None and not _has_ended(holder):
        _log.info("the node id is in use; waits whether its agent lives", holder=holder.instance, seconds=silence)
        deadline = asyncio.get_running_loop().time() + silence
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(CHECK_S)
            newest = await nodes.get(status.id)
            if newest is None:
                break
            if newest.revision != entry.revision:
                raise _taken(_decode(newest.value) or holder, "already runs as node")
    try:
        if await nodes.get(status.id) is None:
            await nodes.create(status.id, status.encode())
        else:
            assert entry is not None
            await nodes.update(status.id, status.encode(), entry.revision)
    except Conflict as error:
        raise _Beaten from error


def _taken(other: NodeStatus, does: str) -> Conflict:
    where = f" on {other.host}, pid {other.pid}" if other.host else ""
    return Conflict(
        f"another agent ({other.instance or 'unnamed'}{where}) {does} {other.id!r}; {_ADVICE}",
        param="LLMOS_INFERENCE_NODE_ID",
    )


def _decode(value: bytes) -> NodeStatus | None:
    try:
        return NodeStatus.decode(value)
    except ValidationError:
        return None


def _has_ended(holder: NodeStatus) -> bool:
    """Whether the holder is a process of this machine that is no more; this process's own number is a former life."""
    if not holder.pid or holder.host != socket.gethostname():
        return False
    if holder.pid == os.getpid():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
