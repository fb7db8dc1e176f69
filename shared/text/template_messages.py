"""What `TemplateProcess` and its worker exchange, as JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.errors import ErrorPayload


class Render(BaseModel):
    """A request: the chat template, and what to render with it."""

    model_config = ConfigDict(frozen=True)

    source: str
    special_tokens: dict[str, str]
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    variables: dict[str, Any] = {}
    add_generation_prompt: bool = True


class Rendered(BaseModel):
    """The response: the prompt, or the error."""

    model_config = ConfigDict(frozen=True)

    prompt: str = ""
    error: ErrorPayload | None = None
