"""From requests to what replicas are asked."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypedDict

from services.gateway.dispatch.dispatcher import Dispatcher, Inquiry
from services.gateway.openai.choices import Answer, Answering, collect, open_answers
from shared.contracts.replica import ChatMessage, Generate, Grammar, Sampling, Tool, ToolChoice

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
    return_prompt: bool


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
    """What an answer's structure must be, and what is told beside it."""

    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO
    return_prompt: bool = False
    """Whether the prompt's token ids and text are told."""

    @property
    def size(self) -> int:
        """Characters of all schemas and grammars."""
        tools = sum(len(tool.parameters) + len(tool.description or "") for tool in self.tools)
        return tools + (0 if self.grammar is None else len(self.grammar.value))


FREE = Demands()


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
        return await collect(self._dispatcher, inquiries)

    def open(self, inquiries: Sequence[Inquiry]) -> AbstractAsyncContextManager[Answering]:
        """Answers to be read frame by frame. Leaving the block cancels unfinished ones."""
        return open_answers(self._dispatcher, inquiries)

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
            return_prompt=demands.return_prompt,
        )

    def _inquiry(self, model: str, generate: Generate, prompt_bytes: int) -> Inquiry:
        return Inquiry(model, generate, self._dispatcher.clock() + self._timeout, prompt_bytes)
