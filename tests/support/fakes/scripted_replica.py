"""A replica without a model: a real responder on the bus that speaks the replica contracts, and can misbehave.

Its tokens depend on prompt, seed and position alone, so a resumed stream can be compared with an uninterrupted one.
Like a real detokeniser it holds text back: after an odd number of tokens the last one's text is not released yet.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry import context
from opentelemetry.context import Context

from shared.bus import rpc
from shared.bus.connect import connect
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.gateway import FinishReason, Frame, FrameBatch, Timings, Usage, frames_subject
from shared.contracts.load import EngineCounters, EngineLoad, LoadReport, load_subject
from shared.contracts.replica import (
    Accepted,
    Cancel,
    Generate,
    Thinking,
    cancel_endpoint,
    generate_endpoint,
)
from shared.contracts.scheduler import REPLICAS_BUCKET, ReplicaState, ReplicaStatus
from shared.contracts.serving import ReplicaOptions
from shared.errors import LlmosError, Overloaded
from tests.support.fakes.scripted_tokens import prompt_scores, prompt_text, released, token_at, token_score

DEFAULT_TOKENS = 6
HEARTBEAT_S = 0.1
SCORES_AT_ONCE = 2
"""Log probabilities of the prompt in one frame."""


class ScriptedReplica:
    """One replica on a connection of its own, so that it can vanish like a process.

    Args:
        bus: Its own connection.
        id: Its id.
        deployment: The deployment that it belongs to.
        token_delay: Seconds between tokens.
    """

    def __init__(self, bus: Bus, id: str, deployment: str, *, token_delay: float = 0.005) -> None:  # noqa: A002
        self.bus = bus
        self.id = id
        self.deployment = deployment
        self.token_delay = token_delay
        self.draining = False
        self.silent = False
        """Sends neither load reports nor frames and renews no lease, but accepts requests."""
        self.stalled = False
        """Generates nothing, says so in its load reports, and accepts requests."""
        self.rejection: LlmosError | None = None
        self.most: int | None = None
        """Requests at once; more are refused as overload."""
        self.cached_tokens = 0
        """The value in every usage."""
        self.skip_token: int | None = None
        """Leaves out the frame of the token at this position, once."""
        self.fail_at: tuple[int, LlmosError] | None = None
        """Ends with an error frame at this position, once."""
        self.die_at: int | None = None
        """Goes away at this position, like a killed process."""
        self.die_after_scores: int | None = None
        """Goes away after so many frames of the prompt's log probabilities."""
        self.skip_scores: list[int] = []
        """Leaves out a frame of the prompt's log probabilities: in the next request the first of these, and so on."""
        self.omit_last = False
        """Leaves out the last frame, once."""
        self.said: tuple[Frame, ...] = ()
        """The frames of every answer, in place of tokens. The last has the reason why it ends."""
        self.thinking: Thinking = "none"
        """Whether answers begin with thoughts."""
        self.queued_tokens = 0
        self.chars_per_token = 0
        """What its status says; 0: that it does not know."""
        self.received: list[Generate] = []
        self.contexts: list[Context] = []
        """The trace context of each request received."""
        self.cancelled: list[str] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._gone = False
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
        await self.heartbeat()
        self._tasks.append(asyncio.create_task(self._send_heartbeats()))

    async def die(self) -> None:
        """As a killed process: nothing more comes, without notice."""
        self._gone = True
        tasks = [*self._tasks, *self._running.values()]
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()
        await self.bus.drain()

    def status(self, state: ReplicaState, message: str = "") -> ReplicaStatus:
        """The record that the node agent, or the replica itself, writes."""
        return ReplicaStatus(
            id=self.id,
            node="node-a",
            deployment=self.deployment,
            model=self.deployment,
            version=1,
            state=state,
            message=message,
            options=ReplicaOptions(slots=4, max_len=1024),
            chars_per_token=self.chars_per_token,
        )

    async def heartbeat(self) -> None:
        """Renew the lease and report load."""
        if self.silent:
            return
        await self.bus.kv(REPLICAS_BUCKET).put(self.id, self.status(ReplicaState.READY).encode())
        report = LoadReport(
            replica_id=self.id,
            deployment=self.deployment,
            model=self.deployment,
            version=1,
            load=EngineLoad(
                running=self.running,
                waiting=0,
                queued_tokens=self.queued_tokens,
                free_slots=4 - self.running,
                slots=4,
                max_len=1024,
                draining=self.draining,
                stalled_s=6.0 if self.stalled else 0.0,
                max_batch=3,
                mean_batch=1.5,
                counters=EngineCounters(steps=self.steps),
            ),
        )
        await rpc.publish(self.bus, load_subject(self.id), report)

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self.heartbeat()

    async def _generate(self, request: Generate) -> Accepted:
        self.received.append(request)
        self.contexts.append(context.get_current())
        if self.rejection is not None:
            raise self.rejection
        answers = request.answers()
        if self.most is not None and self.running + len(answers) > self.most:
            raise Overloaded("the queue is full", retry_after=2.0)
        for answer in answers:
            self._begin(answer)
        text = prompt_text(request)
        returned = text if request.return_prompt else None
        return Accepted(prompt_tokens=len(text.split()), prompt_text=returned, thinking=self.thinking)

    def _begin(self, request: Generate) -> None:
        task = asyncio.create_task(self._emit(request))
        self._running[request.request_id] = task
        task.add_done_callback(lambda _task: self._running.pop(request.request_id, None))

    async def _cancel(self, request: Cancel) -> Empty:
        self.cancelled.append(request.request_id)
        if task := self._running.get(request.request_id):
            task.cancel()
        return Empty()

    async def _emit(self, request: Generate) -> None:
        if self.said:
            for seq, frame in enumerate(self.said):
                await self._send(request, frame.model_copy(update={"request_id": request.request_id, "seq": seq}))
            return
        limit = request.sampling.max_tokens
        count = DEFAULT_TOKENS if limit is None else limit
        tokens = list(request.resume_token_ids)
        text = released(tokens, finished=False)
        seq = await self._emit_scores(request)
        if count == 0 and not self._gone:
            await self._send(request, self._ended(request, Frame(request_id=request.request_id, seq=seq), 0))
        while len(tokens) < count and not self._gone:
            await asyncio.sleep(self.token_delay)
            while self.stalled:  # noqa: ASYNC110  # a flag that the test sets
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
            grown = released(tokens, finished=finished)
            frame = Frame(
                request_id=request.request_id,
                seq=seq,
                text=grown[len(text) :],
                token_ids=(tokens[-1],),
                logprobs=None if request.sampling.logprobs is None else (token_score(tokens[-1], position),),
            )
            if finished:
                frame = self._ended(request, frame, len(tokens))
            text, seq = grown, seq + 1
            if self.skip_token == position:
                self.skip_token = None
            elif finished and self.omit_last:
                self.omit_last = False
            else:
                await self._send(request, frame)

    def _ended(self, request: Generate, frame: Frame, tokens: int) -> Frame:
        usage = Usage(
            prompt_tokens=len(prompt_text(request).split()),
            completion_tokens=tokens,
            cached_tokens=self.cached_tokens,
        )
        timings = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0)
        return frame.model_copy(update={"finish_reason": FinishReason.LENGTH, "usage": usage, "timings": timings})

    async def _emit_scores(self, request: Generate) -> int:
        """Send the prompt's log probabilities unless the request is resumed; returns the number of frames."""
        if request.sampling.prompt_logprobs is None or request.resume_token_ids:
            return 0
        scores = prompt_scores(prompt_text(request))
        skipped = self.skip_scores.pop(0) if self.skip_scores else None
        for seq, start in enumerate(range(0, len(scores), SCORES_AT_ONCE)):
            await asyncio.sleep(self.token_delay)
            if self.die_after_scores == seq:
                await self.die()
                return 0
            if seq == skipped:
                continue
            part = scores[start : start + SCORES_AT_ONCE]
            await self._send(request, Frame(request_id=request.request_id, seq=seq, prompt_logprobs=part))
        return -(-len(scores) // SCORES_AT_ONCE)

    async def _send(self, request: Generate, frame: Frame) -> None:
        if not self.silent:
            batch = FrameBatch(replica_id=self.id, frames=(frame,))
            await rpc.publish(self.bus, frames_subject(request.gateway_id), batch)


@asynccontextmanager
async def scripted_replica(url: str, id: str, deployment: str, **options: float) -> AsyncIterator[ScriptedReplica]:  # noqa: A002
    """A started replica, gone when the block ends."""
    replica = ScriptedReplica(await connect(url, name=id), id, deployment, **options)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.die()
