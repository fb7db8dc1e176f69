"""Runs several generations at once: collected to completions, or read frame by frame.

At most `AT_ONCE` generations of one client's request run at a time, so that a request for many choices neither fills
a queue nor fails because a queue is full. The next one starts when one ends.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.generation import Generation, generating
from services.gateway.dispatch.requests import GenerationRequest
from shared.contracts.gateway import FinishReason, Frame, GeneratedToolCall, TokenLogprob, Usage
from shared.contracts.replica import Accepted
from shared.errors import LlmosError

AT_ONCE = 32
"""Generations of one client's request at the same time."""


@dataclass(slots=True)
class Completion:
    """The result of one generation, complete once `finish_reason` is set."""

    served_by: str
    """The version: `smollm2:1`."""
    prompt: Accepted
    """With token ids and text if the request asked for them."""
    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=0, completion_tokens=0))
    tool_calls: tuple[GeneratedToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


async def collect(dispatcher: Dispatcher, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """All completions, in order. When one fails, the others are cancelled and its error is raised."""
    turns = asyncio.Semaphore(AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_collect(dispatcher, request, turns)) for request in requests]
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    return [task.result() for task in tasks]


async def _collect(dispatcher: Dispatcher, request: GenerationRequest, turns: asyncio.Semaphore) -> Completion:
    async with turns, generating(dispatcher, request) as generation:
        frames = [frame async for frame in generation.frames()]
        last = frames[-1]
        return Completion(
            generation.served_by,
            generation.prompt,
            "".join(frame.text for frame in frames),
            last.finish_reason,
            last.usage or Usage(prompt_tokens=generation.prompt.prompt_tokens, completion_tokens=0),
            tuple(call for frame in frames for call in frame.tool_calls),
            tuple(token for frame in frames for token in frame.token_ids),
            tuple(score for frame in frames for score in frame.logprobs or ()),
            tuple(score for frame in frames for score in frame.prompt_logprobs or ()),
        )


@asynccontextmanager
async def generating_all(
    dispatcher: Dispatcher, requests: Sequence[GenerationRequest]
) -> AsyncIterator["ConcurrentGenerations"]:
    """All generations, to be read frame by frame; replicas have accepted the first `AT_ONCE`.

    Leaving the block cancels unfinished ones. Raises what `generating` raises.
    """
    async with AsyncExitStack() as stack:
        first = [await stack.enter_async_context(generating(dispatcher, each)) for each in requests[:AT_ONCE]]
        generations = ConcurrentGenerations(dispatcher, first, requests[AT_ONCE:])
        stack.push_async_callback(generations.stop)
        yield generations


class ConcurrentGenerations:
    """Generations in progress.

    Args:
        dispatcher: Sends waiting requests to replicas.
        first: The generations that replicas have accepted.
        waiting: The requests that start when a generation ends.
    """

    def __init__(
        self, dispatcher: Dispatcher, first: Sequence[Generation], waiting: Sequence[GenerationRequest]
    ) -> None:
        self._dispatcher = dispatcher
        self._first = first
        self._waiting = deque(enumerate(waiting, start=len(first)))
        self._generations = dict(enumerate(first))
        self._workers: list[asyncio.Task[None]] = []
        self._count = len(first) + len(waiting)

    @property
    def served_by(self) -> str:
        """The version that generates: `smollm2:1`."""
        return self._first[0].served_by

    def prompt(self, index: int) -> Accepted:
        """The prompt of a generation that frames came from."""
        return self._generations[index].prompt

    async def frames(self) -> AsyncIterator[tuple[int, Frame]]:
        """(index of the request, frame) as they come."""
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
        """Stop reading."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(
        self, index: int, generation: Generation, events: "asyncio.Queue[tuple[int, Frame | LlmosError]]"
    ) -> None:
        """Read one generation, then waiting ones while there are any."""
        try:
            await _read(index, generation, events)
            while self._waiting:
                index, request = self._waiting.popleft()
                async with generating(self._dispatcher, request) as following:
                    self._generations[index] = following
                    await _read(index, following, events)
        except LlmosError as error:
            events.put_nowait((index, error))


async def _read(index: int, generation: Generation, events: "asyncio.Queue[tuple[int, Frame | LlmosError]]") -> None:
    async for frame in generation.frames():
        events.put_nowait((index, frame))


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a task group: the first that is not a group itself."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, ExceptionGroup) else first
