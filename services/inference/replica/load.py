"""Publishes the load."""

import asyncio
from collections.abc import Callable

import structlog

from shared.bus import rpc
from shared.bus.port import Bus
from shared.contracts.load import EngineLoad, LoadReport, load_subject
from shared.contracts.scheduler import ReplicaAssignment
from shared.deadlines import LOAD_REPORT_S
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.replica")


async def report_load(bus: Bus, assignment: ReplicaAssignment, load: Callable[[], EngineLoad]) -> None:
    """Publish the load every `LOAD_REPORT_S` seconds, for as long as it runs."""
    while True:
        report = LoadReport(
            replica_id=assignment.id,
            deployment=assignment.deployment,
            model=assignment.model,
            version=assignment.version,
            load=load(),
        )
        try:
            await rpc.publish(bus, load_subject(assignment.id), report)
        except LlmosError as error:
            _log.warning("load.not_reported", error=error.message)
        await asyncio.sleep(LOAD_REPORT_S)
