"""The bodies of `/v1/messages` and `/v1/messages/count_tokens`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.anthropic.blocks import Message, SystemPrompt
from services.gateway.anthropic.conversation import chat_messages
from services.gateway.anthropic.parameters import COUNT, MESSAGES
from services.gateway.anthropic.tools import ToolDefinition, ToolSelection
from services.gateway.dialects.bounds import MAX_MESSAGES, MAX_TOOLS
from services.gateway.dialects.json_values import SchemaText
from services.gateway.dialects.sampling import contract_sampling
from services.gateway.dialects.tools import check_names
from services.gateway.http.body import parse_body
from services.gateway.http.parameters import Ignored
from shared.contracts.replica import ChatMessage, Grammar, TemplateOptions, Tool, ToolChoice
from shared.contracts.sampling import INTEGERS, Sampling
from shared.errors import InvalidInput
from shared.text.client_json import json_text


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ThinkingConfig(_Part):
    """Whether the model thinks, where its template can switch that."""

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: Annotated[int | None, Ignored("thoughts count towards max_tokens")] = None
    display: Literal["summarized", "omitted"] | None = None
    """`omitted`: the blocks of thoughts are empty."""


class OutputFormat(_Part):
    """The schema of the answer."""

    type: Literal["json_schema"]
    json_schema: SchemaText = Field(alias="schema")


class OutputConfig(_Part):
    """How hard the model thinks, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class CountRequest(BaseModel):
    """The body of `/v1/messages/count_tokens`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str
    messages: tuple[Message, ...] = Field(strict=False, min_length=1, max_length=MAX_MESSAGES)
    system: SystemPrompt = ()
    tools: tuple[ToolDefinition, ...] | None = Field(default=None, strict=False, max_length=MAX_TOOLS)
    tool_choice: ToolSelection | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    """The older place of `output_config.format`."""

    def chat_messages(self) -> tuple[ChatMessage, ...]:
        """The contract's messages; raises `InvalidInput` where calls and results do not go together."""
        return chat_messages(self.system, self.messages)

    def contract_tools(self) -> tuple[Tool, ...]:
        """The contract's tools; raises `InvalidInput` if two have one name."""
        tools = tuple(definition.tool for definition in self.tools or ())
        check_names(tools, "tools.{}.name")
        return tools

    def contract_choice(self) -> ToolChoice:
        """The contract's choice; raises `InvalidInput` if it names what is none of the tools."""
        names = [definition.name for definition in self.tools or ()]
        return (self.tool_choice or ToolSelection(type="auto")).choice(names)

    def grammar(self) -> Grammar | None:
        """What the answer must match; raises `InvalidInput` if two fields say it."""
        newer = None if self.output_config is None else self.output_config.format
        if newer is not None and self.output_format is not None:
            raise InvalidInput("output_format does not go with output_config.format", param="output_format")
        if (form := newer or self.output_format) is None:
            return None
        param = f"{'output_format' if newer is None else 'output_config.format'}.schema"
        return Grammar(kind="json_schema", value=form.json_schema, param=param)

    def template_options(self) -> TemplateOptions:
        """How the prompt is rendered. An answer continues the last message, if that is the assistant's."""
        variables: dict[str, Any] = {}
        if self.thinking is not None:
            variables["enable_thinking"] = self.thinking.type != "disabled"
        if self.output_config is not None and self.output_config.effort is not None:
            variables["reasoning_effort"] = self.output_config.effort
        begun = self.messages[-1].role == "assistant"
        return TemplateOptions(
            variables=json_text(variables), add_generation_prompt=not begun, continue_final_message=begun
        )


class MessagesRequest(CountRequest):
    """The body of `/v1/messages`."""

    max_tokens: int = Field(ge=0, lt=INTEGERS)
    """At most; what does not fit after the prompt is cut, and `stop_reason` says so."""
    stream: bool | None = None
    stop_sequences: tuple[str, ...] | None = Field(default=None, strict=False)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    @property
    def shows_thoughts(self) -> bool:
        """Whether the blocks of thoughts have text."""
        return self.thinking is None or self.thinking.display != "omitted"

    def sampling(self, seed: int) -> Sampling:
        """The contract's sampling; raises `InvalidInput` for a value out of its range."""
        fields = {
            "max_tokens": self.max_tokens,
            "stop": self.stop_sequences,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": seed,
        }
        return contract_sampling(fields, {"stop": "stop_sequences"})


def parse_message(body: bytes) -> MessagesRequest:
    """A request for a message; raises what `parse_body` raises."""
    return parse_body(MessagesRequest, body, MESSAGES)


def parse_count(body: bytes) -> CountRequest:
    """A request for a count of tokens; raises what `parse_body` raises."""
    return parse_body(CountRequest, body, COUNT)
