"""From replicas' frames to answers: one or several generations, collected or as they come."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypedDict

from services.gateway.dispatch import Dispatcher, Inquiry
from services.gateway.generation import Generation, generating
from shared.contracts.gateway import FinishReason, Frame, ToolCallDelta, Usage
from shared.contracts.replica import ChatMessage, Generate, Grammar, Sampling, Tool, ToolChoice
from shared.errors import LlmosError

ID_BYTES_PER_TOKEN = 8
"""Bytes of a token id in JSON, at most."""


class _Common(TypedDict):
    """The fields of `Generate` that every kind of request has."""

    request_id: str
    gateway_id: str
    sampling: Sampling
    deadline_ms: int
    tenant: str
    cache_salt: str
    grammar: Grammar | None
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    tenant: str = ""
    """The API key's id; empty without authentication."""
    cache_salt: str = ""
    """Prompts share the prefix cache only with prompts of the same salt."""


NOBODY = Caller()
AUTO = ToolChoice()


@dataclass(frozen=True, slots=True)
class Demands:
    """What an answer's structure must be."""

    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO

    @property
    def size(self) -> int:
        """Characters of all schemas and grammars."""
        tools = sum(len(tool.parameters) + len(tool.description or "") for tool in self.tools)
        return tools + (0 if self.grammar is None else len(self.grammar.value))


FREE = Demands()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    served_by: str
    """The version: `smollm2:1`."""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    """All pieces of the calls that it makes."""


class Asker:
    """Makes inquiries (ids, seeds, deadlines) and has them answered.

    Args:
        dispatcher: Where they go.
        timeout: Seconds that an answer may take.
        random: An integer of n random bits.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        timeout: float,
        *,
        random: Callable[[int], int] = secrets.randbits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._random = random
        self._now = now

    def seed(self) -> int:
        """A seed for a client that gave none: kept for all attempts, so that a resumed answer is consistent."""
        return self._random(63)

    def created(self) -> int:
        """Unix time in seconds, as OpenAI's objects carry it."""
        return int(self._now())

    def answer_id(self, prefix: str) -> str:
        """A new id: `chatcmpl-…`."""
        return f"{prefix}-{self._random(96):024x}"

    def chat(
        self,
        answer_id: str,
        model: str,
        messages: tuple[ChatMessage, ...],
        sampling: Sampling,
        caller: Caller = NOBODY,
        *,
        demands: Demands = FREE,
    ) -> Inquiry:
        """An inquiry for a conversation's next message."""
        size = sum(len(message.content.encode()) for message in messages) + demands.size
        common = self._common(answer_id, sampling, caller, demands)
        return self._inquiry(model, Generate(messages=messages, **common), size)

    def complete(
        self,
        answer_id: str,
        model: str,
        prompt: str | tuple[int, ...],
        sampling: Sampling,
        caller: Caller = NOBODY,
        *,
        demands: Demands = FREE,
    ) -> Inquiry:
        """An inquiry for a text's continuation."""
        common = self._common(answer_id, sampling, caller, demands)
        if isinstance(prompt, str):
            return self._inquiry(model, Generate(prompt=prompt, **common), len(prompt.encode()))
        return self._inquiry(model, Generate(prompt_token_ids=prompt, **common), ID_BYTES_PER_TOKEN * len(prompt))

    async def collect(self, inquiries: Sequence[Inquiry]) -> list[Answer]:
        """All answers, in order. When one fails, the others are cancelled and its error is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._collect(inquiry)) for inquiry in inquiries]
        except ExceptionGroup as errors:
            raise first_error(errors) from None
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def open(self, inquiries: Sequence[Inquiry]) -> AsyncIterator["Answering"]:
        """All answers accepted by replicas, to be read frame by frame. Leaving the block cancels unfinished ones."""
        async with AsyncExitStack() as stack:
            generations = [
                await stack.enter_async_context(generating(self._dispatcher, inquiry)) for inquiry in inquiries
            ]
            answering = Answering(generations)
            stack.push_async_callback(answering.stop)
            yield answering

    async def _collect(self, inquiry: Inquiry) -> Answer:
        texts: list[str] = []
        calls: list[ToolCallDelta] = []
        async with generating(self._dispatcher, inquiry) as generation:
            async for frame in generation.frames():
                texts.append(frame.text)
                calls += frame.tool_calls
                if frame.finish_reason is not None:
                    usage = frame.usage or Usage(prompt_tokens=generation.prompt_tokens, completion_tokens=0)
                    return Answer("".join(texts), frame.finish_reason, usage, generation.served_by, tuple(calls))
        raise AssertionError("frames end with a finish reason or an error")

    def _common(self, answer_id: str, sampling: Sampling, caller: Caller, demands: Demands) -> "_Common":
        return _Common(
            request_id=answer_id,
            gateway_id=self._dispatcher.gateway_id,
            sampling=sampling,
            deadline_ms=int((self._now() + self._timeout) * 1000),
            tenant=caller.tenant,
            cache_salt=caller.cache_salt,
            grammar=demands.grammar,
            tools=demands.tools,
            tool_choice=demands.tool_choice,
        )

    def _inquiry(self, model: str, generate: Generate, prompt_bytes: int) -> Inquiry:
        return Inquiry(model, generate, self._dispatcher.clock() + self._timeout, prompt_bytes)


class Answering:
    """Accepted answers, in the making."""

    def __init__(self, generations: list[Generation]) -> None:
        self._generations = generations
        self._pumps: list[asyncio.Task[None]] = []

    @property
    def served_by(self) -> str:
        """The version that answers: `smollm2:1`."""
        return self._generations[0].served_by

    async def frames(self) -> AsyncIterator[tuple[int, Frame]]:
        """(index of the inquiry, frame) as they come."""
        if len(self._generations) == 1:
            async for frame in self._generations[0].frames():
                yield 0, frame
            return
        queue: asyncio.Queue[tuple[int, Frame | LlmosError]] = asyncio.Queue()
        self._pumps = [
            asyncio.create_task(_pump(index, generation, queue)) for index, generation in enumerate(self._generations)
        ]
        open_ones = len(self._pumps)
        while open_ones:
            index, event = await queue.get()
            if isinstance(event, LlmosError):
                raise event
            open_ones -= event.finish_reason is not None
            yield index, event

    async def stop(self) -> None:
        """Read no further."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


async def _pump(index: int, generation: Generation, queue: "asyncio.Queue[tuple[int, Frame | LlmosError]]") -> None:
    try:
        async for frame in generation.frames():
            queue.put_nowait((index, frame))
    except LlmosError as error:
        queue.put_nowait((index, error))


def first_error(errors: ExceptionGroup[Exception]) -> Exception:
    """The error that ended a task group: the first that is no group itself."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, ExceptionGroup) else first
