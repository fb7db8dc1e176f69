"""The arguments of a call in the history, which are any string: a model wrote them, or half of them."""

from typing import Any

from shared.text.client_json import parse_json

Arguments = dict[str, Any] | str
"""An object, or text that is none."""


def call_arguments(text: str) -> Arguments:
    """The object that `text` is; `{}` for no arguments; what is no JSON object stays text."""
    if not text.strip():
        return {}
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return {} if value is None else value if isinstance(value, dict) else text
