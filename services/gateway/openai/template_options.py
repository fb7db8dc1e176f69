"""How a chat request has its template rendered: vLLM's fields, and those of OpenAI's that a template may use."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.gateway.dialects.json_values import JsonObject
from shared.contracts.replica import TemplateOptions
from shared.errors import InvalidInput
from shared.text.client_json import json_text

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class TemplateRequest(BaseModel):
    """The fields of a chat request."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    add_generation_prompt: bool | None = None
    """Whether the prompt ends with the beginning of the assistant's message. Not given: unless one is continued."""
    continue_final_message: bool | None = None
    """Whether the answer continues the last message."""
    chat_template_kwargs: JsonObject | None = None
    """Variables of the template, like `enable_thinking`. A template ignores those that it does not know."""
    reasoning_effort: Effort | None = None
    """OpenAI's; a variable of the template. `none` also switches thinking off, where the template can."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """OpenAI's; a variable of the template."""

    def template_options(self) -> TemplateOptions:
        """The contract's; raises `InvalidInput` where two fields contradict each other."""
        if self.continue_final_message and self.add_generation_prompt:
            raise InvalidInput(
                "continue_final_message and add_generation_prompt exclude each other: the answer continues the last"
                " message, or is a new one",
                param="continue_final_message",
            )
        variables = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort == "none":
            variables.setdefault("enable_thinking", False)
        fields = {"reasoning_effort": self.reasoning_effort, "verbosity": self.verbosity}
        variables |= {name: value for name, value in fields.items() if value is not None}
        return TemplateOptions(
            variables=json_text(variables),
            add_generation_prompt=self.add_generation_prompt is not False,
            continue_final_message=bool(self.continue_final_message),
        )
