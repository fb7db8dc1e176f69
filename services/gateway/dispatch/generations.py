"""Makes generation requests with ids, seeds and deadlines, and runs several at once."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypedDict

from services.gateway.dispatch.concurrent_generations import (
    Completion,
    ConcurrentGenerations,
    collect,
    generating_all,
)
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.requests import ANONYMOUS, FREE_TEXT, Caller, GenerationRequest, OutputOptions
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


class Generations:
    """All that an API dialect needs to generate text.

    Args:
        dispatcher: Sends the requests to replicas.
        timeout: Seconds that a request may take.
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
        """A seed for a client that gave none: kept for all attempts, so that a resumed stream is consistent."""
        return self._random(63)

    def created(self) -> int:
        """Unix time in seconds, as OpenAI's objects carry it."""
        return int(self._now())

    def new_id(self, prefix: str) -> str:
        """A new id: `chatcmpl-…`."""
        return f"{prefix}-{self._random(96):024x}"

    def chat_request(
        self,
        request_id: str,
        model: str,
        messages: tuple[ChatMessage, ...],
        sampling: Sampling,
        caller: Caller = ANONYMOUS,
        *,
        options: OutputOptions = FREE_TEXT,
    ) -> GenerationRequest:
        """A request for a conversation's next message."""
        size = sum(len(message.content.encode()) for message in messages) + options.size
        common = self._common(request_id, sampling, caller, options)
        return self._request(model, Generate(messages=messages, **common), size)

    def completion_request(
        self,
        request_id: str,
        model: str,
        prompt: str | tuple[int, ...],
        sampling: Sampling,
        caller: Caller = ANONYMOUS,
        *,
        options: OutputOptions = FREE_TEXT,
    ) -> GenerationRequest:
        """A request for a text's continuation."""
        common = self._common(request_id, sampling, caller, options)
        if isinstance(prompt, str):
            return self._request(model, Generate(prompt=prompt, **common), len(prompt.encode()))
        return self._request(model, Generate(prompt_token_ids=prompt, **common), ID_BYTES_PER_TOKEN * len(prompt))

    async def collect(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """All completions, in order. When one fails, the others are cancelled and its error is raised."""
        return await collect(self._dispatcher, requests)

    def running(self, requests: Sequence[GenerationRequest]) -> AbstractAsyncContextManager[ConcurrentGenerations]:
        """The generations, to be read frame by frame. Leaving the block cancels unfinished ones."""
        return generating_all(self._dispatcher, requests)

    def _common(self, request_id: str, sampling: Sampling, caller: Caller, options: OutputOptions) -> "_Common":
        return _Common(
            request_id=request_id,
            gateway_id=self._dispatcher.gateway_id,
            sampling=sampling,
            deadline_ms=int((self._now() + self._timeout) * 1000),
            tenant=caller.tenant,
            cache_salt=caller.cache_salt,
            grammar=options.grammar,
            tools=options.tools,
            tool_choice=options.tool_choice,
            return_prompt=options.return_prompt,
        )

    def _request(self, model: str, generate: Generate, prompt_bytes: int) -> GenerationRequest:
        return GenerationRequest(model, generate, self._dispatcher.clock() + self._timeout, prompt_bytes)
