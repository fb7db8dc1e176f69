"""Makes generation requests with ids, seeds and deadlines, and runs several at once."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypedDict

from services.gateway.dispatch.concurrent_generations import (
    Completion,
    ConcurrentGenerations,
    collect,
    generating_all,
)
from services.gateway.dispatch.requests import ANONYMOUS, FREE_TEXT, Caller, GenerationRequest, OutputOptions
from services.gateway.dispatch.stamps import Stamps
from shared.contracts.replica import ChatMessage, Generate, Grammar, TemplateOptions, Tool, ToolChoice
from shared.contracts.sampling import Sampling

ID_BYTES_PER_TOKEN = 8
"""Bytes of a token id in JSON, at most."""


class _Common(TypedDict):
    """The fields of `Generate` that every kind of request has."""

    request_id: str
    gateway_id: str
    sampling: Sampling
    tenant: str
    cache_salt: str
    grammar: Grammar | None
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    template: TemplateOptions
    return_prompt: bool


class Generations(Stamps):
    """All that an API dialect needs to generate text."""

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
        size = sum(map(_size, messages)) + options.size
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
        parse_special: bool = False,
    ) -> GenerationRequest:
        """A request for a text's continuation."""
        common = self._common(request_id, sampling, caller, options)
        if isinstance(prompt, str):
            generate = Generate(prompt=prompt, parse_special=parse_special, **common)
            return self._request(model, generate, len(prompt.encode()))
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
            tenant=caller.tenant,
            cache_salt=caller.cache_salt,
            grammar=options.grammar,
            tools=options.tools,
            tool_choice=options.tool_choice,
            template=options.template,
            return_prompt=options.return_prompt,
        )

    def _request(self, model: str, generate: Generate, prompt_bytes: int) -> GenerationRequest:
        return GenerationRequest(model, generate, self.deadline(), prompt_bytes)


def _size(message: ChatMessage) -> int:
    """Bytes of its texts."""
    texts = (message.content, message.reasoning or "", *(call.arguments for call in message.tool_calls))
    return sum(len(text.encode()) for text in texts)
