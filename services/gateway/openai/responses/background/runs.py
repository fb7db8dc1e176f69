"""Responses that go on when the client leaves: `background: true`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from services.gateway.http import errors
from services.gateway.openai.responses.background.event_log import EventLog, split_events
from services.gateway.openai.responses.background.leases import RunLeases
from services.gateway.openai.responses.events import EventWriter
from services.gateway.openai.responses.generator import ResponseGenerator
from services.gateway.openai.responses.preparation import Prepared
from services.gateway.openai.responses.resource import cancel
from services.gateway.openai.responses.storage.store import Store, Stored
from shared.contracts.response import PART_BYTES, ResponseStatus
from shared.errors import Conflict, LlmosError, Overloaded, Unavailable
from shared.service.background import background

_log = structlog.get_logger("llmos.gateway")

MAX_RUNS = 64
"""Of one tenant at this gateway at once."""
_PERSIST_S = 0.25
"""Events are stored this often."""
_STOP_S = 2.0
"""Runs have this long to store that the gateway stopped."""


class Run:
    """One response that is generated here."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.log = EventLog()
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the response is stored and a replica generates it; else with the error."""
        self.cancelled = False
        """Whether a client wants it to end; otherwise a cancellation is the gateway's own."""
        self.task: asyncio.Task[None] | None = None
        self.stored: Stored | None = None
        self.flush: asyncio.Future[None] | None = None
        """Stores events now, or did last."""
        self.flushed = 0
        """Events that are stored."""
        self.pieces = 0
        """In which they are."""

    def cancel(self) -> None:
        """A client wants it to end."""
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


class BackgroundRuns:
    """The responses that this gateway generates in the background.

    Args:
        generator: Generates them.
        store: Keeps them.
        leases: Say that they are generated.
    """

    def __init__(self, generator: ResponseGenerator, store: Store, leases: RunLeases) -> None:
        self._generator = generator
        self._store = store
        self._leases = leases
        self._runs: dict[tuple[str, str], Run] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["BackgroundRuns"]:
        """Generate responses while the block runs; those that are left then have failed."""
        try:
            yield self
        finally:
            tasks = [run.task for run in self._runs.values() if run.task is not None]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_STOP_S)

    def find(self, tenant: str, response_id: str) -> Run | None:
        """A response that is generated here."""
        return self._runs.get((tenant, response_id))

    async def start(self, prepared: Prepared) -> Run:
        """Begin a response; it is stored when this returns.

        Raises:
            Overloaded: The tenant has too many that run.
            LlmosError: No replica takes it, or it cannot be stored.
        """
        if sum(tenant == prepared.tenant for tenant, _ in self._runs) >= MAX_RUNS:
            raise Overloaded(
                f"{MAX_RUNS} background responses of this key are running; wait for one", retry_after=5.0
            )
        run = Run(prepared)
        key = (prepared.tenant, prepared.id)
        self._runs[key] = run
        run.task = asyncio.create_task(self._run(run), name=f"response {prepared.id}")
        run.task.add_done_callback(lambda _task: self._runs.pop(key, None))
        await asyncio.shield(run.accepted)
        return run

    async def _run(self, run: Run) -> None:
        """Generate a response to its end, whatever that is."""
        prepared, writer = run.prepared, EventWriter()
        last = b""
        try:
            async with self._generator.running(prepared) as events, self._begun(run):
                async for together in events:
                    for event in together:
                        run.log.add(writer.write(event))
                await self._generator.extend_conversation(prepared)
            last = writer.state(prepared.resource)
        except asyncio.CancelledError:
            if run.cancelled:
                cancel(prepared.resource)
            else:
                last = writer.failure(prepared.resource, Unavailable("the gateway that generated it was stopped"))
        except BaseException as error:  # noqa: BLE001  # the boundary: it becomes the response's state
            known = errors.as_llmos(error, "POST", "/v1/responses")
            if not run.accepted.done():
                run.accepted.set_exception(known)
                return
            last = writer.failure(prepared.resource, known)
        if not run.accepted.done():
            run.accepted.set_exception(Unavailable("the gateway is shutting down"))
            return
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        try:
            await self._conclude(run, last)
        finally:
            run.log.end()

    @asynccontextmanager
    async def _begun(self, run: Run) -> AsyncIterator[None]:
        """A replica has accepted: store the response, and renew its lease while the block runs."""
        prepared = run.prepared
        tenant, response_id, events = prepared.tenant, prepared.id, bool(prepared.request.stream)
        revision = await self._leases.begin(tenant, response_id)
        try:
            status = ResponseStatus.IN_PROGRESS
            content = {**prepared.content, "response": {**prepared.resource, "status": status}}
            run.stored = await self._store.create(tenant, response_id, content, status=status, events=events)
        except BaseException:
            await self._leases.end(tenant, response_id)
            raise
        run.accepted.set_result(None)
        async with (
            background(self._leases.renew(tenant, response_id, revision, run.cancel), "renew a run"),
            background(self._persist(run), "store events"),
        ):
            yield

    async def _persist(self, run: Run) -> None:
        """Store the events every now and then, if they can be read again."""
        while run.prepared.request.stream:
            await asyncio.sleep(_PERSIST_S)
            run.flush = asyncio.ensure_future(self._flush(run))
            await asyncio.shield(run.flush)

    async def _flush(self, run: Run, last: bytes = b"") -> None:
        """Store the events that are not stored yet, and `last`, in pieces that are written once."""
        new = run.log.since(run.flushed)
        data = b"".join(new) + last
        for at in range(0, len(data), PART_BYTES):
            try:
                await self._store.put_events(
                    run.prepared.tenant, run.prepared.id, run.pieces, data[at : at + PART_BYTES]
                )
            except LlmosError as error:
                _log.warning("response.events_not_stored", id=run.prepared.id, problem=error.message)
                return  # they are tried again with the next
            run.pieces += 1
        run.flushed += len(new)

    async def _conclude(self, run: Run, last: bytes) -> None:
        """Store how a response ended, and let its readers know."""
        prepared, stored = run.prepared, run.stored
        tenant, response_id = prepared.tenant, prepared.id
        assert stored is not None
        if run.flush is not None:
            await asyncio.wait((run.flush,))
        if prepared.request.stream:
            await self._flush(run, last)
        try:
            await self._store.replace(tenant, stored, prepared.content, status=prepared.resource["status"])
        except Conflict:
            if await self._store.find(tenant, response_id) is None:
                await self._store.delete(tenant, stored.record)  # its events
            else:
                _log.warning("response.lost", id=response_id, problem="its lease had expired, so it counts as failed")
        except LlmosError as error:
            _log.error("response.not_stored", id=response_id, code=error.code, problem=error.message)
        await self._leases.end(tenant, response_id)
        for event in split_events(last):
            run.log.add(event)
