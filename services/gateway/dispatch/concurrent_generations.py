"""Runs several generations at once: collected to completions, or read frame by frame.

At most `AT_ONCE` generations of one client's request run at a time, so that a request for many choices neither fills
a queue nor fails because a queue is full. Those for one prompt begin together, as one message on the bus: `n` copies
of a long prompt would fill it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.generation import Generation, generating
from services.gateway.dispatch.requests import GenerationRequest
from shared.contracts.gateway import FinishReason, Frame, GeneratedToolCall, Timings, TokenLogprob, Usage
from shared.contracts.replica import MAX_TOGETHER, Accepted
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
    stop_string: str | None = None
    """The stop string that ended the text."""
    timings: Timings | None = None
    """Of the replica that ended it."""


async def collect(dispatcher: Dispatcher, requests: Sequence[GenerationRequest]) -> list[Completion]:
    """All completions, in order. When one fails, the others are cancelled and its error is raised."""
    places = _Places()
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_collect(dispatcher, group, places)) for group in _groups(requests)]
    except ExceptionGroup as errors:
        raise first_error(errors) from None
    return [completion for task in running for completion in task.result()]


async def _collect(dispatcher: Dispatcher, group: Sequence[GenerationRequest], places: "_Places") -> list[Completion]:
    await places.take(len(group))
    async with generating(dispatcher, group) as generations:
        if len(generations) == 1:
            return [await _completion(generations[0], places)]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(_completion(generation, places)) for generation in generations]
    return [task.result() for task in running]


async def _completion(generation: Generation, places: "_Places") -> Completion:
    frames = [frame async for frame in generation.frames()]
    places.give_back()
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
        last.stop_string,
        last.timings,
    )


class _Places:
    """For the generations of one request: a group takes its places together, and each gives its own back."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._taking = asyncio.Lock()  # two groups that had half of their places each would wait for one another

    async def take(self, count: int) -> None:
        """Wait for `count` places."""
        async with self._taking:
            for _ in range(count):
                await self._free.acquire()

    def give_back(self) -> None:
        """A generation has ended."""
        self._free.release()


def _groups(requests: Sequence[GenerationRequest]) -> list[list[GenerationRequest]]:
    """The requests in order, those for one prompt together: they cross the bus as one."""
    groups: list[list[GenerationRequest]] = []
    for request in requests:
        if groups and len(groups[-1]) < MAX_TOGETHER and request.goes_with(groups[-1][0]):
            groups[-1].append(request)
        else:
            groups.append([request])
    return groups


@asynccontextmanager
async def generating_all(
    dispatcher: Dispatcher, requests: Sequence[GenerationRequest]
) -> AsyncIterator["ConcurrentGenerations"]:
    """All generations, to be read frame by frame; replicas have accepted the first, at most `AT_ONCE`.

    Leaving the block cancels unfinished ones. Raises what `generating` raises.
    """
    waiting = deque(_groups(requests))
    first: list[Generation] = []
    async with AsyncExitStack() as stack:
        while waiting and len(first) + len(waiting[0]) <= AT_ONCE:
            first += await stack.enter_async_context(generating(dispatcher, waiting.popleft()))
        generations = ConcurrentGenerations(dispatcher, first, waiting)
        stack.push_async_callback(generations.stop)
        yield generations


class ConcurrentGenerations:
    """Generations in progress.

    Args:
        dispatcher: Sends waiting requests to replicas.
        first: The generations that replicas have accepted.
        waiting: The groups of requests that start when as many generations have ended.
    """

    def __init__(
        self, dispatcher: Dispatcher, first: Sequence[Generation], waiting: deque[list[GenerationRequest]]
    ) -> None:
        self._dispatcher = dispatcher
        self._first = first
        self._waiting = waiting
        self._generations = dict(enumerate(first))
        self._workers: list[asyncio.Task[None]] = []
        self._begun = len(first)
        self._count = len(first) + sum(map(len, waiting))
        self._free = AT_ONCE - len(first)
        self._events: asyncio.Queue[tuple[int, Frame | LlmosError]] = asyncio.Queue()

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
        self._workers = [asyncio.create_task(self._read(*each)) for each in enumerate(self._first)]
        left = self._count
        while left:
            index, event = await self._events.get()
            if isinstance(event, LlmosError):
                raise event
            left -= event.finish_reason is not None
            yield index, event

    async def stop(self) -> None:
        """Stop reading."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _read(self, index: int, generation: Generation) -> None:
        """Read one generation to its end, and let waiting ones begin."""
        try:
            async for frame in generation.frames():
                self._events.put_nowait((index, frame))
        except LlmosError as error:
            self._events.put_nowait((index, error))
            return
        self._free += 1
        while self._waiting and len(self._waiting[0]) <= self._free:
            group = self._waiting.popleft()
            self._free -= len(group)
            self._workers.append(asyncio.create_task(self._run(self._begun, group)))
            self._begun += len(group)

    async def _run(self, first: int, group: list[GenerationRequest]) -> None:
        """Begin a group, the first of which has the index `first`, and read it."""
        try:
            async with generating(self._dispatcher, group) as generations:
                self._generations |= enumerate(generations, start=first)
                await asyncio.gather(*(self._read(*each) for each in enumerate(generations, start=first)))
        except LlmosError as error:
            self._events.put_nowait((first, error))


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a task group: the first that is not a group itself."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, ExceptionGroup) else first
