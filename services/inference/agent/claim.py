"""One agent per node id: two agents would each stop the replicas of the other."""

import asyncio

import structlog
from pydantic import ValidationError

from shared.bus.port import KeyValue, KvOperation
from shared.contracts.scheduler import NodeStatus
from shared.deadlines import CLAIM_GRACE_S, LEASE_TTL_S
from shared.errors import Conflict
from shared.service.process_identity import ProcessIdentity

CHECK_S = 0.25

_log = structlog.get_logger("llmos.agent")


async def claim(nodes: KeyValue, status: NodeStatus, *, silence: float = LEASE_TTL_S + CLAIM_GRACE_S) -> NodeStatus:
    """Write the node's record, which makes the node id this agent's; the record to hold from now on.

    A record that is not renewed for `silence` seconds is that of a dead agent. A record of a process of this machine
    that has ended is taken over at once.

    Raises:
        Conflict: Another agent has the id.
    """
    for _ in range(3):  # after a lost race
        try:
            revision = await _claim(nodes, status, silence)
        except _WriteConflict:
            continue
        return status.model_copy(update={"claim": revision})
    raise Conflict(f"several agents start as node {status.id!r}; {_ADVICE}", param="LLMOS_INFERENCE_NODE_ID")


async def watch_for_takeover(nodes: KeyValue, status: NodeStatus) -> None:
    """Run until another agent has taken the node over, because it found this one's record expired.

    Of two agents, the one whose claim has the higher revision came later. Their clocks are not compared.

    Args:
        nodes: The bucket.
        status: What `claim` returned.

    Raises:
        Conflict: Another agent has the node.
    """
    async with nodes.watch() as events:
        async for event in events:
            if event.operation is not KvOperation.PUT or event.key != status.id:
                continue
            other = _decode(event.value)
            if other is None or other.instance == status.instance:
                continue
            if (other.claim or event.revision) > status.claim:
                raise _conflict(other, "took over node")


class _WriteConflict(Exception):
    """Another agent wrote the record first."""


_ADVICE = "give each its own LLMOS_INFERENCE_NODE_ID"


async def _claim(nodes: KeyValue, status: NodeStatus, silence: float) -> int:
    """The revision of the record that was written."""
    entry = await nodes.get(status.id)
    holder = None if entry is None else _decode(entry.value)
    if entry is not None and holder is not None and not _has_ended(holder):
        _log.info("node_id.in_use", holder=holder.instance, waits_s=silence)
        deadline = asyncio.get_running_loop().time() + silence
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(CHECK_S)
            newest = await nodes.get(status.id)
            if newest is None:
                break
            if newest.revision != entry.revision:
                raise _conflict(_decode(newest.value) or holder, "already runs as node")
    try:
        if entry is None or await nodes.get(status.id) is None:
            return await nodes.create(status.id, status.encode())
        return await nodes.update(status.id, status.encode(), entry.revision)
    except Conflict as error:
        raise _WriteConflict from error


def _conflict(other: NodeStatus, does: str) -> Conflict:
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
    """Whether the holder was a process of this machine that has ended; a stranger may have its pid by now."""
    return ProcessIdentity(holder.pid, holder.birth).has_ended()
