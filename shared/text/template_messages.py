"""What `TemplateProcess` and its worker exchange, as JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.errors import ErrorPayload


class Render(BaseModel):
    """A request: the chat template, and what to render with it."""

    model_config = ConfigDict(frozen=True)

    source: str
    bos_token: str
    eos_token: str
    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()
    add_generation_prompt: bool = True
    continue_final_message: bool = False


class Rendered(BaseModel):
    """The response: the prompt, or the error."""

    model_config = ConfigDict(frozen=True)

    prompt: str = ""
    error: ErrorPayload | None = None
