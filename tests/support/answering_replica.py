"""A replica without a model: a real responder on the bus that speaks the replica contracts, and can misbehave.

Its answer depends on prompt, seed and position alone, so a resumed answer can be compared with an uninterrupted one.
Like a real detokeniser it holds text back: after an odd number of tokens the last one's text is not released yet.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry import context
from opentelemetry.context import Context

from shared.bus import rpc
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.gateway import FinishReason, Frame, FrameBatch, Timings, Usage, frames_subject
from shared.contracts.replica import (
    Accepted,
    Cancel,
    Generate,
    LoadReport,
    cancel_endpoint,
    generate_endpoint,
    load_subject,
)
from shared.contracts.scheduler import REPLICAS_BUCKET, ReplicaState, ReplicaStatus
from shared.errors import LlmosError, Overloaded

DEFAULT_TOKENS = 6
BEAT_S = 0.1


class AnsweringReplica:
    """One replica on a connection of its own, so that it can vanish like a process.

    Args:
        bus: Its own connection.
        id: Its id.
        deployment: Whose requests it answers.
        token_delay: Seconds between tokens.
    """

    def __init__(self, bus: Bus, id: str, deployment: str, *, token_delay: float = 0.005) -> None:  # noqa: A002
        self.bus = bus
        self.id = id
        self.deployment = deployment
        self.token_delay = token_delay
        self.draining = False
        self.silent = False
        """Sends neither load reports nor frames, renews no lease, and yet answers."""
        self.rejection: LlmosError | None = None
        self.most: int | None = None
        """Requests at once; more are refused as overload."""
        self.cached_tokens = 0
        """What every answer's usage says."""
        self.skip_token: int | None = None
        """Leaves out the frame of the token at this position, once."""
        self.fail_at: tuple[int, LlmosError] | None = None
        """Ends with an error frame at this position, once."""
        self.die_at: int | None = None
        """Goes away at this position, like a killed process."""
        self.omit_last = False
        """Leaves out the last frame, once."""
        self.queued_tokens = 0
        self.received: list[Generate] = []
        self.contexts: list[Context] = []
        """The trace context of each request received."""
        self.cancelled: list[str] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self.steps = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """Generations in progress."""
        return len(self._running)

    async def start(self) -> None:
        """Subscribe, then announce."""
        await rpc.respond(self.bus, generate_endpoint(self.id), self._generate)
        await rpc.respond(self.bus, cancel_endpoint(self.id), self._cancel)
        await self.beat()
        self._tasks.append(asyncio.create_task(self._beat_for_ever()))

    async def die(self) -> None:
        """As a killed process: nothing more comes, and nobody says so."""
        tasks = [*self._tasks, *self._running.values()]
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await self.bus.drain()

    def status(self, state: ReplicaState, message: str = "") -> ReplicaStatus:
        """What the node agent, or the replica itself, writes about it."""
        return ReplicaStatus(
            id=self.id,
            node="node-a",
            deployment=self.deployment,
            model=self.deployment,
            version=1,
            state=state,
            message=message,
            slots=4,
            max_len=1024,
        )

    async def beat(self) -> None:
        """Renew the lease and report load."""
        if self.silent:
            return
        await self.bus.kv(REPLICAS_BUCKET).put(self.id, self.status(ReplicaState.READY).encode())
        report = LoadReport(
            replica_id=self.id,
            deployment=self.deployment,
            model=self.deployment,
            version=1,
            running=self.running,
            waiting=0,
            queued_tokens=self.queued_tokens,
            free_slots=4 - self.running,
            slots=4,
            max_len=1024,
            draining=self.draining,
            steps=self.steps,
            max_batch=3,
            mean_batch=1.5,
        )
        await rpc.publish(self.bus, load_subject(self.id), report)

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            await self.beat()

    async def _generate(self, request: Generate) -> Accepted:
        self.received.append(request)
        self.contexts.append(context.get_current())
        if self.rejection is not None:
            raise self.rejection
        if self.most is not None and self.running >= self.most:
            raise Overloaded("the queue is full", retry_after=2.0)
        task = asyncio.create_task(self._emit(request))
        self._running[request.request_id] = task
        task.add_done_callback(lambda _task: self._running.pop(request.request_id, None))
        return Accepted(prompt_tokens=len(prompt_text(request).split()))

    async def _cancel(self, request: Cancel) -> Empty:
        self.cancelled.append(request.request_id)
        if task := self._running.get(request.request_id):
            task.cancel()
        return Empty()

    async def _emit(self, request: Generate) -> None:
        count = request.sampling.max_tokens or DEFAULT_TOKENS
        tokens = list(request.resume_token_ids)
        text = _released(tokens, finished=False)
        seq = 0
        while len(tokens) < count:
            await asyncio.sleep(self.token_delay)
            position = len(tokens)
            if self.die_at == position:
                await self.die()
                return
            if self.fail_at is not None and self.fail_at[0] == position:
                error, self.fail_at = self.fail_at[1], None
                await self._send(request, Frame(request_id=request.request_id, seq=seq, error=error.payload()))
                return
            tokens.append(token_at(request, position))
            self.steps += 1
            finished = len(tokens) == count
            grown = _released(tokens, finished=finished)
            frame = Frame(request_id=request.request_id, seq=seq, text=grown[len(text) :], token_ids=(tokens[-1],))
            if finished:
                frame = frame.model_copy(
                    update={
                        "finish_reason": FinishReason.LENGTH,
                        "usage": Usage(
                            prompt_tokens=len(prompt_text(request).split()),
                            completion_tokens=len(tokens),
                            cached_tokens=self.cached_tokens,
                        ),
                        "timings": Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0),
                    }
                )
            text, seq = grown, seq + 1
            if self.skip_token == position:
                self.skip_token = None
            elif finished and self.omit_last:
                self.omit_last = False
            else:
                await self._send(request, frame)

    async def _send(self, request: Generate, frame: Frame) -> None:
        if not self.silent:
            batch = FrameBatch(replica_id=self.id, frames=(frame,))
            await rpc.publish(self.bus, frames_subject(request.gateway_id), batch)


@asynccontextmanager
async def answering_replica(url: str, id: str, deployment: str, **options: float) -> AsyncIterator[AnsweringReplica]:  # noqa: A002
    """A started replica, gone when the block ends."""
    replica = AnsweringReplica(await connect(url, name=id), id, deployment, **options)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.die()


def prompt_text(request: Generate) -> str:
    """The prompt, as if the chat template were only line breaks."""
    if request.messages is not None:
        return "\n".join(message.content for message in request.messages)
    return request.prompt if request.prompt is not None else " ".join(map(str, request.prompt_token_ids or ()))


def token_at(request: Generate, position: int) -> int:
    """The token at a position: keyed by prompt, seed and position."""
    return zlib.crc32(f"{prompt_text(request)}/{request.sampling.seed}/{position}".encode()) % 10_000


def expected_text(prompt: str, seed: int, count: int) -> str:
    """The whole answer to a prompt."""
    request = Generate(request_id="x", gateway_id="x", prompt=prompt)
    request = request.model_copy(update={"sampling": request.sampling.model_copy(update={"seed": seed})})
    return _released([token_at(request, position) for position in range(count)], finished=True)


def _released(tokens: list[int], *, finished: bool) -> str:
    count = len(tokens) if finished else len(tokens) - len(tokens) % 2
    return "".join(f" w{token}" for token in tokens[:count])
