"""Several generations at once: collected to answers, or frame by frame as they come.

At most `AT_ONCE` of one request run at a time, so a request for many answers neither fills a queue nor fails by it:
the next one starts when one ends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.gateway.dispatch.dispatcher import Dispatcher, Inquiry
from services.gateway.dispatch.generation import Generation, generating
from shared.contracts.gateway import FinishReason, Frame, TokenLogprob, ToolCallDelta, Usage
from shared.contracts.replica import Accepted
from shared.errors import LlmosError

AT_ONCE = 32
"""Answers to one request that are made at the same time."""


@dataclass(slots=True)
class Answer:
    """An answer, complete once `finish_reason` is set."""

    served_by: str
    """The version: `smollm2:1`."""
    prompt: Accepted
    """With token ids and text if they were asked for."""
    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=0, completion_tokens=0))
    tool_calls: tuple[ToolCallDelta, ...] = ()
    """All pieces of the calls that it makes."""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


async def collect(dispatcher: Dispatcher, inquiries: Sequence[Inquiry]) -> list[Answer]:
    """All answers, in order. When one fails, the others are cancelled and its error is raised."""
    turns = asyncio.Semaphore(AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_collect(dispatcher, inquiry, turns)) for inquiry in inquiries]
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]


async def _collect(dispatcher: Dispatcher, inquiry: Inquiry, turns: asyncio.Semaphore) -> Answer:
    async with turns, generating(dispatcher, inquiry) as generation:
        frames = [frame async for frame in generation.frames()]
        last = frames[-1]
        return Answer(
            generation.served_by,
            generation.prompt,
            "".join(frame.text for frame in frames),
            last.finish_reason,
            last.usage or Usage(prompt_tokens=generation.prompt.prompt_tokens, completion_tokens=0),
            tuple(delta for frame in frames for delta in frame.tool_calls or ()),
            tuple(token for frame in frames for token in frame.token_ids),
            tuple(score for frame in frames for score in frame.logprobs or ()),
            tuple(score for frame in frames for score in frame.prompt_logprobs or ()),
        )


@asynccontextmanager
async def open_answers(dispatcher: Dispatcher, inquiries: Sequence[Inquiry]) -> AsyncIterator["Answering"]:
    """The first `AT_ONCE` answers accepted by replicas, all to be read frame by frame.

    Leaving the block cancels unfinished ones. Raises what `generating` raises.
    """
    async with AsyncExitStack() as stack:
        first = [await stack.enter_async_context(generating(dispatcher, each)) for each in inquiries[:AT_ONCE]]
        answering = Answering(dispatcher, first, inquiries[AT_ONCE:])
        stack.push_async_callback(answering.stop)
        yield answering


class Answering:
    """Answers in the making.

    Args:
        dispatcher: Where those that wait go.
        first: Accepted ones.
        waiting: Those to start when one of them ends.
    """

    def __init__(self, dispatcher: Dispatcher, first: Sequence[Generation], waiting: Sequence[Inquiry]) -> None:
        self._dispatcher = dispatcher
        self._first = first
        self._waiting = deque(enumerate(waiting, start=len(first)))
        self._generations = dict(enumerate(first))
        self._workers: list[asyncio.Task[None]] = []
        self._count = len(first) + len(waiting)

    @property
    def served_by(self) -> str:
        """The version that answers: `smollm2:1`."""
        return self._first[0].served_by

    def prompt(self, index: int) -> Accepted:
        """The prompt of an answer that frames came from."""
        return self._generations[index].prompt

    async def frames(self) -> AsyncIterator[tuple[int, Frame]]:
        """(index of the inquiry, frame) as they come."""
        if self._count == 1:
            async for frame in self._first[0].frames():
                yield 0, frame
            return
        events: asyncio.Queue[tuple[int, Frame | LlmosError]] = asyncio.Queue()
        self._workers = [asyncio.create_task(self._work(*each, events)) for each in enumerate(self._first)]
        left = self._count
        while left:
            index, event = await events.get()
            if isinstance(event, LlmosError):
                raise event
            left -= event.finish_reason is not None
            yield index, event

    async def stop(self) -> None:
        """Read no further."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(
        self, index: int, generation: Generation, events: "asyncio.Queue[tuple[int, Frame | LlmosError]]"
    ) -> None:
        """Read one answer, then those that wait, until none does."""
        try:
            await _read(index, generation, events)
            while self._waiting:
                index, inquiry = self._waiting.popleft()
                async with generating(self._dispatcher, inquiry) as following:
                    self._generations[index] = following
                    await _read(index, following, events)
        except LlmosError as error:
            events.put_nowait((index, error))


async def _read(index: int, generation: Generation, events: "asyncio.Queue[tuple[int, Frame | LlmosError]]") -> None:
    async for frame in generation.frames():
        events.put_nowait((index, frame))


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a task group: the first that is no group itself."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, ExceptionGroup) else first
