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
from shared.text.context_length import check_context_length

Choice = tuple[str, Sampling]
"""The request id and the sampling of a choice. Those for one prompt differ in seed and `prompt_logprobs` only."""
ID_BYTES_PER_TOKEN = 8
"""Bytes of a token id in JSON, at most."""


class _Common(TypedDict):
    """The fields of `Generate` that every kind of request has."""

    request_id: str
    gateway_id: str
    tenant: str
    cache_salt: str
    grammar: Grammar | None
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    template: TemplateOptions
    return_prompt: bool
    clip_max_tokens: bool


class Generations(Stamps):
    """All that an API dialect needs to generate text."""

    def chat_requests(
        self,
        choices: Sequence[Choice],
        model: str,
        messages: tuple[ChatMessage, ...],
        caller: Caller = ANONYMOUS,
        *,
        options: OutputOptions = FREE_TEXT,
    ) -> list[GenerationRequest]:
        """Requests for a conversation's next message, one for each of `choices`.

        Raises `ContextLengthExceeded` if the conversation cannot fit.
        """
        self._check_text(model, sum(len(message.content) for message in messages), "messages")
        size = sum(map(_size, messages)) + options.size
        return self._requests(choices, model, Generate(messages=messages, **self._common(caller, options)), size)

    def completion_requests(
        self,
        choices: Sequence[Choice],
        model: str,
        prompt: str | tuple[int, ...],
        caller: Caller = ANONYMOUS,
        *,
        options: OutputOptions = FREE_TEXT,
        parse_special: bool = False,
    ) -> list[GenerationRequest]:
        """Requests for a text's continuation, as `chat_requests`."""
        common = self._common(caller, options)
        if isinstance(prompt, str):
            self._check_text(model, len(prompt), "prompt")
            generate = Generate(prompt=prompt, parse_special=parse_special, **common)
            return self._requests(choices, model, generate, len(prompt.encode()))
        self._check_tokens(model, len(prompt), "prompt")
        size = ID_BYTES_PER_TOKEN * len(prompt)
        return self._requests(choices, model, Generate(prompt_token_ids=prompt, **common), size)

    async def collect(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """All completions, in order. When one fails, the others are cancelled and its error is raised."""
        return await collect(self._dispatcher, requests)

    def running(self, requests: Sequence[GenerationRequest]) -> AbstractAsyncContextManager[ConcurrentGenerations]:
        """The generations, to be read frame by frame. Leaving the block cancels unfinished ones."""
        return generating_all(self._dispatcher, requests)

    def _common(self, caller: Caller, options: OutputOptions) -> "_Common":
        return _Common(
            request_id="",  # each choice has its own
            gateway_id=self._dispatcher.gateway_id,
            tenant=caller.tenant,
            cache_salt=caller.cache_salt,
            grammar=options.grammar,
            tools=options.tools,
            tool_choice=options.tool_choice,
            template=options.template,
            return_prompt=options.return_prompt,
            clip_max_tokens=options.clip_max_tokens,
        )

    def _requests(
        self, choices: Sequence[Choice], model: str, generate: Generate, prompt_bytes: int
    ) -> list[GenerationRequest]:
        request = GenerationRequest(model, generate, self.deadline(), prompt_bytes)
        return [request.further(request_id, sampling) for request_id, sampling in choices]

    def _check_text(self, model: str, chars: int, param: str) -> None:
        """Raise `ContextLengthExceeded` if a text of so many characters cannot fit, however it is tokenised."""
        if chars_per_token := self._dispatcher.table.chars_per_token(model):
            self._check_tokens(model, chars // chars_per_token, param, at_least=True)

    def _check_tokens(self, model: str, tokens: int, param: str, *, at_least: bool = False) -> None:
        if (deployment := self._dispatcher.table.deployments.get(model)) is not None:
            check_context_length(tokens, 0, deployment.options.max_len, param=param, at_least=at_least)


def _size(message: ChatMessage) -> int:
    """Bytes of its texts."""
    texts = (message.content, message.reasoning or "", *(call.arguments for call in message.tool_calls))
    return sum(len(text.encode()) for text in texts)
