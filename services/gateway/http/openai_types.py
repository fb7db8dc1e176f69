"""The bodies of OpenAI's chat and completion requests, as far as LLMOS supports them.

Strict: a wrong type is an error. What is not a field here is judged by `services.gateway.http.parameters`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from services.gateway.http.body import parse_body
from services.gateway.http.parameters import check_message_field, check_parameter
from shared.contracts.replica import ChatMessage, Sampling
from shared.errors import InvalidInput

MAX_PROMPTS = 128
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for `/v1/completions`."""


def _flatten(content: object) -> object:
    """Text parts as one text: parts are told apart by line breaks, as vLLM does for text-only models."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        msg = "expected a string or a list of text parts"
        raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, Mapping) or "type" not in part:
            msg = f'part {index} must be an object like {{"type": "text", "text": "…"}}'
            raise ValueError(msg)
        if part["type"] != "text":
            msg = f"part {index} is of type {part['type']!r}, which is not supported yet; only 'text' is"
            raise ValueError(msg)
        if not isinstance(part.get("text"), str):
            msg = f"the text of part {index} must be a string"
            raise ValueError(msg)  # noqa: TRY004  # pydantic reports ValueErrors
        texts.append(part["text"])
    return "\n".join(texts)


_TextParts = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "text"],
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            },
        },
        {"type": "null"},
    ]
}


class Message(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(_flatten), WithJsonSchema(_TextParts)] = ""
    name: str | None = None


class StreamOptions(BaseModel):
    """Only for streams."""

    model_config = ConfigDict(strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted without effect."""


def _stop_list(stop: object) -> object:
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


class SamplingRequest(BaseModel):
    """What chat and completion requests have in common."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1)
    """vLLM's; 0 or -1 is off."""
    seed: int | None = Field(default=None, ge=-(1 << 63), le=(1 << 64) - 1)
    stop: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        BeforeValidator(_stop_list),
        Field(max_length=16),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]}
        ),
    ] = ()
    ignore_eos: bool | None = None
    """vLLM's: go on past the end of the answer, up to max_tokens."""
    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)
    """vLLM's: prompts share the prefix cache only with prompts of the same salt."""

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_tokens

    def sampling(self, random_seed: int) -> Sampling:
        """The contract's sampling; `random_seed` where the client gave none, so that a resume is consistent."""
        return Sampling(
            max_tokens=self.limit(),
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=max(0, self.top_k or 0),
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=(random_seed if self.seed is None else self.seed) % (1 << 64),
            stop=self.stop,
            ignore_eos=bool(self.ignore_eos),
        )


class ChatRequest(SamplingRequest):
    """The body of `/v1/chat/completions`."""

    messages: tuple[Message, ...] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """OpenAI's newer name of `max_tokens`; it wins."""

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def chat_messages(self) -> tuple[ChatMessage, ...]:
        """The contract's messages."""
        return tuple(
            ChatMessage(role=message.role, content=message.content, name=message.name) for message in self.messages
        )


Prompt = str | tuple[int, ...]


def _prompts(prompt: object) -> object:
    """Any of OpenAI's four forms as a list of prompts."""
    if isinstance(prompt, str):
        return (prompt,)
    if not isinstance(prompt, list) or not prompt:
        msg = "expected a string, a list of strings, a list of token ids, or a list of lists of token ids"
        raise ValueError(msg)
    prompts = [prompt] if all(_is_id(item) for item in prompt) else prompt
    if len(prompts) > MAX_PROMPTS:
        msg = f"at most {MAX_PROMPTS} prompts go into one request"
        raise ValueError(msg)
    for index, item in enumerate(prompts):
        if isinstance(item, str):
            continue
        if not isinstance(item, list) or not item or not all(_is_id(token) for token in item):
            msg = f"prompt {index} must be a string or a list of token ids"
            raise ValueError(msg)
    return tuple(tuple(item) if isinstance(item, list) else item for item in prompts)


def _is_id(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0


class CompletionRequest(SamplingRequest):
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

    def limit(self) -> int | None:
        """The most tokens to generate."""
        return self.max_tokens or DEFAULT_COMPLETION_TOKENS


Request = TypeVar("Request", bound=SamplingRequest)


def parse_request(kind: type[Request], body: bytes) -> Request:
    """The request in a body; raises `InvalidInput` naming the parameter that is wrong, unknown or not supported."""
    request = parse_body(kind, body)
    for name, value in (request.model_extra or {}).items():
        check_parameter(name, value)
    if isinstance(request, ChatRequest):
        for index, message in enumerate(request.messages):
            for name, value in (message.model_extra or {}).items():
                check_message_field(index, name, value)
    if request.stream_options is not None and not request.stream:
        raise InvalidInput("stream_options goes with stream=true only", param="stream_options")
    return request
