"""The load report."""

import asyncio
from collections.abc import Callable

import structlog

from services.inference.engine.load import EngineLoad
from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.replica import LoadReport, load_subject
from shared.contracts.scheduler import ReplicaAssignment
from shared.deadlines import LOAD_REPORT_S
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.replica")


def load_report(assignment: ReplicaAssignment, load: EngineLoad) -> LoadReport:
    """What the gateways route by."""
    return LoadReport(
        replica_id=assignment.id,
        deployment=assignment.deployment,
        model=assignment.model,
        version=assignment.version,
        running=load.running,
        waiting=load.waiting,
        queued_tokens=load.queued_tokens,
        free_slots=load.free_slots,
        slots=load.slots,
        max_len=load.max_len,
        draining=load.draining,
        steps=load.steps,
        generated_tokens=load.generated_tokens,
        prompt_tokens=load.prompt_tokens,
        max_batch=load.max_batch,
        mean_batch=load.mean_batch,
        rejected=load.rejected,
        cancelled=load.cancelled,
        cached_tokens=load.cached_tokens,
        looked_up_tokens=load.looked_up_tokens,
        cached_blocks=load.cached_blocks,
        cache_blocks=load.cache_blocks,
        draft_tokens=load.draft_tokens,
        accepted_tokens=load.accepted_tokens,
        wait_s=load.wait_s,
    )


async def report_load(bus: Bus, assignment: ReplicaAssignment, load: Callable[[], EngineLoad]) -> None:
    """Publish the load every `LOAD_REPORT_S` seconds, for as long as it runs."""
    while True:
        try:
            await rpc.publish(bus, load_subject(assignment.id), load_report(assignment, load()))
        except LlmosError as error:
            _log.warning("load.not_reported", error=error.message)
        await asyncio.sleep(LOAD_REPORT_S)
