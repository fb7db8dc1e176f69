"""The bodies of requests."""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.gateway.dialects.json_values import JsonObject
from services.gateway.http.body import parse_body
from services.gateway.http.parameters import Elsewhere, Ignored, Parameters
from services.gateway.openai.responses.request.items import InputItems
from services.gateway.openai.responses.request.parameters import PARAMETERS, Includable
from services.gateway.openai.responses.request.text_format import TextConfig
from services.gateway.openai.responses.request.tools import Choice, Tools
from services.gateway.openai.sampling import SamplingRequest
from services.gateway.openai.template_options import Effort, TemplateRequest
from services.gateway.openai.tools import ToolRequest
from shared.contracts.replica import Grammar, TemplateOptions
from shared.contracts.sampling import INTEGERS, MAX_LOGPROBS
from shared.errors import InvalidInput

_LOGPROBS = "message.output_text.logprobs"
_REPEATED = "the response repeats it"
_CHATS = "responses have none; /v1/chat/completions has"
_TAGS = re.compile(
    r"\b((?:input|items)\.\d+)\.(?:message|function_call_output|function_call|reasoning|item_reference)\b"
)
"""The type of an item, which pydantic puts into the place of a mistake."""

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""OpenAI's limits."""
Body = TypeVar("Body", bound=BaseModel)


class ReasoningConfig(BaseModel):
    """How much is thought, for templates that can tell the model."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    """Without effect: thoughts are returned whole."""


class ConversationReference(BaseModel):
    """A conversation that the response belongs to."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    id: str


def _conversation(given: object) -> object:
    return {"id": given} if isinstance(given, str) else given


class ResponseRequest(SamplingRequest):
    """The body of `/v1/responses`."""

    input: InputItems = ()
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Annotated[
        ConversationReference | None,
        BeforeValidator(_conversation, json_schema_input_type=str | ConversationReference | None),
    ] = None
    tools: Tools | None = None
    tool_choice: Choice = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: Annotated[tuple[Includable, ...], Field(strict=False)] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, lt=INTEGERS)
    max_tool_calls: Annotated[int | None, Field(ge=1, lt=INTEGERS), Ignored("no tools are hosted")] = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    metadata: Metadata | None = None
    store: bool | None = None
    background: bool | None = None
    user: Annotated[str | None, Ignored(_REPEATED)] = None
    safety_identifier: Annotated[str | None, Ignored(_REPEATED)] = None
    prompt_cache_key: Annotated[str | None, Ignored(_REPEATED)] = None
    chat_template_kwargs: JsonObject | None = None
    """Variables of the template, like `enable_thinking`."""

    n: Annotated[int | None, Elsewhere("a response has one answer; send several requests")] = None
    max_tokens: Annotated[int | None, Elsewhere("here it is max_output_tokens")] = None
    logprobs: Annotated[int | None, Elsewhere(f"here it is top_logprobs, with {_LOGPROBS} in include")] = None
    prompt_logprobs: Annotated[int | None, Elsewhere(_CHATS)] = None
    return_token_ids: Annotated[bool | None, Elsewhere(_CHATS)] = None
    return_tokens_as_token_ids: Annotated[bool | None, Elsewhere(_CHATS)] = None

    def limit(self) -> int | None:
        """The most tokens to generate; None: as many as fit."""
        return self.max_output_tokens

    def scored(self) -> int | None:
        """Most probable tokens to list for each token of the answer; None: no log probabilities."""
        return self.top_logprobs or 0 if self.has_logprobs else None

    @property
    def has_logprobs(self) -> bool:
        """Whether text comes with log probabilities."""
        return bool(self.top_logprobs) or _LOGPROBS in (self.include or ())

    def grammar(self) -> Grammar | None:
        """What the text must match."""
        return None if self.text is None or self.text.format is None else self.text.format.grammar()

    def tool_request(self) -> ToolRequest:
        """The tools as a chat has them."""
        tools = None if self.tools is None else tuple(tool.definition() for tool in self.tools)
        return ToolRequest.model_construct(
            tools=tools, tool_choice=self.tool_choice, parallel_tool_calls=self.parallel_tool_calls
        )

    def template_options(self) -> TemplateOptions:
        """How the conversation is rendered."""
        return TemplateRequest.model_construct(
            chat_template_kwargs=self.chat_template_kwargs,
            reasoning_effort=None if self.reasoning is None else self.reasoning.effort,
            verbosity=None if self.text is None else self.text.verbosity,
        ).template_options()


class ConversationRequest(BaseModel):
    """The body of `POST /v1/conversations`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    items: InputItems | None = None
    metadata: Metadata | None = None


class ConversationUpdate(BaseModel):
    """The body of `POST /v1/conversations/{id}`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    metadata: Metadata | None


class NewItems(BaseModel):
    """The body of `POST /v1/conversations/{id}/items`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    items: Annotated[InputItems, Field(min_length=1)]


def parse_items_body(kind: type[Body], body: bytes, parameters: Parameters | None = None) -> Body:
    """A body that may have items, as `parse_body`; an error names the field without the type of an item."""
    try:
        return parse_body(kind, body, parameters)
    except InvalidInput as error:
        param = None if error.param is None else _TAGS.sub(r"\1", error.param)
        raise InvalidInput(_TAGS.sub(r"\1", error.message), param=param) from error


def parse_response_request(body: bytes) -> ResponseRequest:
    """The request in a body; raises `InvalidInput` naming the parameter that is wrong, unknown or not supported."""
    request = parse_items_body(ResponseRequest, body, PARAMETERS)
    for name, field in ResponseRequest.model_fields.items():
        for kind in field.metadata:
            if isinstance(kind, Elsewhere) and getattr(request, name) is not None:
                raise InvalidInput(f"{name} is no parameter of a response: {kind.instead}", param=name)
    _check_together(request)
    return request


def _check_together(request: ResponseRequest) -> None:
    """Raise `InvalidInput` where one parameter contradicts another, or needs it."""
    if request.stream_options is not None and not request.stream:
        raise InvalidInput("stream_options goes with stream=true only", param="stream_options")
    if request.previous_response_id is not None and request.conversation is not None:
        raise InvalidInput(
            "previous_response_id and conversation exclude each other: both say what came before",
            param="conversation",
        )
    if request.background and request.store is False:
        raise InvalidInput("background=true needs store: its response is fetched later", param="background")
    if not request.input and request.previous_response_id is None and request.conversation is None:
        raise InvalidInput("input is required: a text, or a list of items", param="input")
