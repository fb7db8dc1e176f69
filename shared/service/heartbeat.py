"""A process says every second how it is."""

import asyncio
import importlib.metadata
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from shared.bus import rpc
from shared.contracts.monitor import HEALTH_BEAT_S, HealthBeat, health_subject
from shared.service import health_file
from shared.service.context import Context


def llmos_version() -> str:
    """The installed distribution's version."""
    try:
        return importlib.metadata.version("llmos")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"


@asynccontextmanager
async def beating(context: Context, file: Path | None = None) -> AsyncIterator[None]:
    """Publish health beats while inside, also at once when readiness changes; a last one says goodbye.

    `file` is written with each of them (see `health_file`).
    """
    changed = asyncio.Event()
    context.readiness.listen(changed.set)
    started_at, version = datetime.now(UTC), llmos_version()

    async def beat(*, leaving: bool = False) -> None:
        reasons = context.readiness.reasons
        if file is not None:
            health_file.write(file, ("leaving",) if leaving else reasons)
        message = HealthBeat(
            service=context.name,
            instance=context.instance,
            pid=os.getpid(),
            ready=not reasons and not leaving,
            reasons=reasons,
            started_at=started_at,
            version=version,
            leaving=leaving,
        )
        await rpc.publish(context.bus, health_subject(context.name, context.instance), message)

    async def beat_for_ever() -> None:
        while True:
            changed.clear()
            await beat()
            with suppress(TimeoutError):  # asyncio.timeout, since wait_for may swallow a cancellation
                async with asyncio.timeout(HEALTH_BEAT_S):
                    await changed.wait()

    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(beat_for_ever(), name="health beats")
            try:
                yield
            finally:
                task.cancel()
    finally:
        await beat(leaving=True)
