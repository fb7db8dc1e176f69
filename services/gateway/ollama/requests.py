"""The bodies of Ollama's requests."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.gateway.dialects.bounds import MAX_MESSAGES, MAX_TOOLS
from services.gateway.dialects.sampling import contract_sampling
from services.gateway.dialects.text_list import Strings
from services.gateway.dialects.tools import check_names
from services.gateway.http.body import parse_body
from services.gateway.http.parameters import Parameters
from services.gateway.ollama.messages import Message, ToolDefinition, chat_messages
from services.gateway.ollama.parameters import CHAT, EMBED, GENERATE, OPTIONS, SHOW
from shared.contracts.replica import ChatMessage, Grammar, TemplateOptions, Tool
from shared.contracts.sampling import MAX_LOGPROBS, Sampling
from shared.errors import InvalidInput
from shared.text.client_json import json_text

LATEST = ":latest"
"""What Ollama's clients add to a name without a tag: deployments have none."""
_SEEDS = 1 << 64
_NAMES = {
    "max_tokens": "options.num_predict",
    "repetition_penalty": "options.repeat_penalty",
    "temperature": "options.temperature",
    "top_k": "options.top_k",
    "top_p": "options.top_p",
    "min_p": "options.min_p",
    "presence_penalty": "options.presence_penalty",
    "frequency_penalty": "options.frequency_penalty",
    "stop": "options.stop",
}
"""Of the contract's fields in this dialect."""


def _stop_list(stop: object) -> object:
    return (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop


ModelName = Annotated[str, Field(min_length=1), AfterValidator(lambda name: name.removesuffix(LATEST))]
"""A deployment."""


class Options(BaseModel):
    """How tokens are chosen, and when an answer ends. Without an option, the version's default applies."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    """Over prompt and answer."""
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    """-1: a new one for each request."""
    num_predict: int | None = None
    """Tokens of the answer, at most; below 1: as many as fit."""
    stop: Annotated[
        tuple[str, ...] | None, BeforeValidator(_stop_list, json_schema_input_type=str | list[str] | None)
    ] = None

    @model_validator(mode="after")
    def _known(self) -> "Options":
        OPTIONS.check_all({f"options.{name}": value for name, value in (self.model_extra or {}).items()})
        return self

    def sampling(self, random_seed: int, logprobs: int | None) -> Sampling:
        """The contract's sampling; raises `InvalidInput` for a value out of its range."""
        fields = {
            "max_tokens": self.num_predict if self.num_predict and self.num_predict > 0 else None,
            "repetition_penalty": self.repeat_penalty,
            "seed": random_seed if self.seed in (None, -1) else (self.seed or 0) % _SEEDS,
            "logprobs": logprobs,
            **{name: getattr(self, name) for name in _NAMES if name in Options.model_fields},
        }
        return contract_sampling(fields, _NAMES)


def _format(given: object) -> object:
    if given in ("", None):
        return None
    if given != "json" and not isinstance(given, dict):
        msg = "expected 'json' or a JSON schema"
        raise ValueError(msg)
    return given if given == "json" else json_text(given)


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: ModelName


class AnswerRequest(_Request):
    """What `/api/chat` and `/api/generate` have in common."""

    stream: bool | None = None
    """Default: true."""
    format: Annotated[
        str | None, BeforeValidator(_format, json_schema_input_type=Literal["", "json"] | dict[str, Any] | None)
    ] = None
    """`json`, or a JSON schema."""
    options: Options | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    """Variables of the template: `enable_thinking`, and `reasoning_effort` for a level."""
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream."""
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        """Whether `keep_alive` asks to unload the model."""
        return (self.model_extra or {}).get("keep_alive") in (0, "0", "0s")

    def sampling(self, random_seed: int) -> Sampling:
        """The contract's sampling; raises `InvalidInput` for a value out of its range."""
        if self.top_logprobs and not self.logprobs:
            raise InvalidInput("top_logprobs goes with logprobs=true only", param="top_logprobs")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return (self.options or Options()).sampling(random_seed, logprobs)

    def grammar(self) -> Grammar | None:
        """What the answer must match."""
        if self.format is None:
            return None
        if self.format == "json":
            return Grammar(kind="json_object", param="format")
        return Grammar(kind="json_schema", value=self.format, strict=False, param="format")

    def template_options(self) -> TemplateOptions:
        """How the prompt is rendered."""
        variables: dict[str, Any] = {}
        if self.think is not None:
            variables["enable_thinking"] = self.think is not False
        if isinstance(self.think, str):
            variables["reasoning_effort"] = self.think
        return TemplateOptions(variables=json_text(variables))


class ChatRequest(AnswerRequest):
    """The body of `/api/chat`."""

    messages: tuple[Message, ...] | None = Field(default=None, strict=False, max_length=MAX_MESSAGES)
    """None: only see that the model is there."""
    tools: tuple[ToolDefinition, ...] | None = Field(default=None, strict=False, max_length=MAX_TOOLS)

    def chat_messages(self) -> tuple[ChatMessage, ...]:
        """The contract's messages; raises `InvalidInput` for a result without its call."""
        return chat_messages(self.messages or ())

    def contract_tools(self) -> tuple[Tool, ...]:
        """The contract's tools; raises `InvalidInput` if two have one name."""
        tools = tuple(definition.tool for definition in self.tools or ())
        check_names(tools, "tools.{}.function.name")
        return tools


class GenerateRequest(AnswerRequest):
    """The body of `/api/generate`."""

    prompt: str | None = None
    """None: only see that the model is there."""
    system: str | None = None
    raw: bool | None = None
    """Whether the prompt is the model's own format, control tokens included; otherwise it is a user's message."""

    def chat_messages(self) -> tuple[ChatMessage, ...]:
        """The contract's messages; raises `InvalidInput` where they do not go with `raw`."""
        if self.raw and self.system:
            raise InvalidInput("system does not go with raw: write it into the prompt", param="system")
        system = (ChatMessage(role="system", content=self.system),) if self.system else ()
        return (*system, ChatMessage(role="user", content=self.prompt or ""))


class EmbedRequest(_Request):
    """The body of `/api/embed`."""

    input: Strings
    truncate: bool | None = None
    """Whether longer texts are cut to what the model takes; default: true. Otherwise they are an error."""
    dimensions: int | None = Field(default=None, ge=0)
    """The first numbers of each embedding to keep, normalised again; 0: all."""


class EmbeddingsRequest(_Request):
    """The body of `/api/embeddings`, the older form."""

    prompt: str


class ShowRequest(_Request):
    """The body of `/api/show`."""

    model: ModelName = Field(validation_alias=AliasChoices("model", "name"))
    """`name` is its older name."""


PARAMETERS: Mapping[type[BaseModel], Parameters] = {
    ChatRequest: CHAT,
    GenerateRequest: GENERATE,
    EmbedRequest: EMBED,
    EmbeddingsRequest: EMBED,
    ShowRequest: SHOW,
}
"""What each may have besides its fields."""
Kind = TypeVar("Kind", bound=BaseModel)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """The request in a body; raises what `parse_body` raises."""
    return parse_body(kind, body, PARAMETERS[kind])
