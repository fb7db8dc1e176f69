"""The bodies of OpenAI's chat and completion requests, as far as LLMOS supports them.

Strict: a wrong type is an error. `services.gateway.openai.parameters` checks parameters that are not fields here.
"""

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from services.gateway.dialects.bounds import MAX_MESSAGES
from services.gateway.dialects.json_values import are_ids
from services.gateway.http.body import parse_body
from services.gateway.openai.messages import Message
from services.gateway.openai.parameters import REQUEST, check_messages
from services.gateway.openai.sampling import MAX_CHOICES, SamplingRequest
from services.gateway.openai.structured_outputs import StructuredRequest
from services.gateway.openai.template_options import TemplateRequest
from services.gateway.openai.tools import ToolRequest
from shared.contracts.replica import ChatMessage
from shared.contracts.sampling import INTEGERS, MAX_LOGPROBS
from shared.errors import InvalidInput

MAX_PROMPTS = 128
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for `/v1/completions`."""


class ChatRequest(SamplingRequest, StructuredRequest, ToolRequest, TemplateRequest):
    """The body of `/v1/chat/completions`."""

    messages: tuple[Message, ...] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1, lt=INTEGERS)
    max_completion_tokens: int | None = Field(default=None, ge=1, lt=INTEGERS)
    """OpenAI's newer name of `max_tokens`; it wins."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def scored(self) -> int | None:
        """Most probable tokens to list for each generated token; None: no log probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def chat_messages(self) -> tuple[ChatMessage, ...]:
        """The contract's messages."""
        return tuple(message.chat_message() for message in self.messages)


Prompt = str | tuple[int, ...]


def _prompts(prompt: object) -> object:
    """Any of OpenAI's four forms as a list of prompts."""
    if isinstance(prompt, str):
        return (prompt,)
    if not isinstance(prompt, list) or not prompt:
        msg = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
        raise ValueError(msg)
    prompts = [prompt] if are_ids(prompt) else prompt
    if len(prompts) > MAX_PROMPTS:
        msg = f"there are {len(prompts)} prompts; at most {MAX_PROMPTS} go into one request"
        raise ValueError(msg)
    for index, item in enumerate(prompts):
        if isinstance(item, str):
            continue
        if not isinstance(item, list) or not are_ids(item):
            msg = f"prompt {index} must be a string or a list of token ids"
            raise ValueError(msg)
    return tuple(tuple(item) if isinstance(item, list) else item for item in prompts)


class CompletionRequest(SamplingRequest, StructuredRequest):
    """The body of `/v1/completions`."""

    prompt: Annotated[
        tuple[Prompt, ...],
        BeforeValidator(_prompts),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "array", "items": {"type": "integer"}},
                    {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                ]
            }
        ),
    ]
    parse_special: bool | None = None
    """Whether `<|im_end|>` in a text prompt is the control token. Default: it is text."""
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1)
    """Equal to `n` if given: LLMOS returns all completions that it generates."""

    @property
    def returns_prompt(self) -> bool:
        """Whether the response has the prompt's tokens or text."""
        return bool(self.return_token_ids or self.echo)

    def limit(self) -> int | None:
        """The most tokens to generate."""
        return DEFAULT_COMPLETION_TOKENS if self.max_tokens is None else self.max_tokens

    def scored(self) -> int | None:
        """Most probable tokens to list for each generated token; None: no log probabilities."""
        return self.logprobs

    def scored_prompt(self) -> int | None:
        """Most probable tokens to list for each token of the prompt: `echo` makes it part of the text."""
        counts = (super().scored_prompt(), self.logprobs if self.echo else None)
        return max((count for count in counts if count is not None), default=None)

    def scores_each_prompt(self) -> bool:
        """Whether every completion of a prompt has the prompt's log probabilities; otherwise only the first has."""
        return bool(self.echo) and self.logprobs is not None


Request = TypeVar("Request", bound=SamplingRequest)


def parse(kind: type[Request], body: bytes) -> Request:
    """The request in a body; raises `InvalidInput` naming the parameter that is wrong, unknown or not supported."""
    request = parse_body(kind, body, REQUEST)
    if isinstance(request, ChatRequest):
        check_messages(request.messages)
    _check_together(request)
    return request


def _check_together(request: SamplingRequest) -> None:
    """Raise `InvalidInput` where one parameter contradicts another."""
    if request.stream_options is not None and not request.stream:
        raise InvalidInput("stream_options goes with stream=true only", param="stream_options")
    if request.prompt_logprobs and request.stream:
        raise InvalidInput("prompt_logprobs does not go with stream=true", param="prompt_logprobs")
    if isinstance(request, ChatRequest) and request.top_logprobs and not request.logprobs:
        raise InvalidInput("top_logprobs goes with logprobs=true only", param="top_logprobs")
    if isinstance(request, CompletionRequest):
        if request.best_of is not None and request.best_of != request.choices:
            raise InvalidInput(
                f"best_of is {request.best_of} and n is {request.choices}; only best_of equal to n is supported",
                param="best_of",
            )
        if request.choices * len(request.prompt) > MAX_CHOICES:
            raise InvalidInput(
                f"n is {request.choices} for {len(request.prompt)} prompts; together at most {MAX_CHOICES} answers"
                " are made for one request",
                param="n",
            )
