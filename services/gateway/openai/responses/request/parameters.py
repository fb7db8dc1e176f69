"""Parameters of OpenAI's responses that are not fields of our request."""

from collections.abc import Mapping
from typing import Any, Literal

from shared.errors import InvalidInput

HARMLESS = frozenset({"prompt_cache_retention", "prompt_cache_options", "service_tier", "image", "access_programs"})
"""Accepted without effect."""
REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "truncation": (
        ("disabled",),
        "a conversation that does not fit is refused, with both numbers, and never shortened; leave items out",
    ),
    "prompt": ((), "LLMOS stores no prompt templates; send the text as instructions or input"),
    "moderation": ((), "LLMOS has no moderation model of its own; ask a classifier with /v1/classify"),
    "context_management": (([],), "LLMOS compacts no conversations; leave items out yourself"),
    "background_options": (({"completion_window": "soonest"},), "a background response starts at once"),
}
"""Those that LLMOS does not support: the values that mean "off", and what to do."""
Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
]
"""Values of `include`. All but the first have no effect: thoughts are not encrypted, and no tools are hosted."""


def check_extra(name: str, value: object) -> None:
    """Raise `InvalidInput` unless a parameter that is no field of the request may stand there."""
    if name in HARMLESS:
        return
    if name not in REFUSED:
        raise InvalidInput(f"unrecognized request argument: {name:.200}", param=name[:200])
    off, why = REFUSED[name]
    if value is not None and value not in off:
        shown = f" {value!r:.40}" if isinstance(value, str) else ""
        raise InvalidInput(f"{name}{shown} is not supported: {why}", param=name)
