"""What a client may say about the rendering of its conversation: variables, and a last message to be continued.

A message is continued as Hugging Face does it, and vLLM with it: a mark is put at its end, and the prompt ends where
the mark was rendered.
"""

from typing import Any

from shared.contracts.replica import ChatMessage
from shared.errors import InvalidInput
from shared.text.client_json import parse_json

_MARK = "CONTINUE-FINAL-MESSAGE-HERE"
_SPACED = _MARK + " "
"""Shows whether the template strips white space at the end of a message: the text to continue then ends without."""
_PARAM = "continue_final_message"


def template_variables(text: str) -> dict[str, Any]:
    """The variables of `TemplateOptions`."""
    try:
        variables = parse_json(text)
    except ValueError as error:
        raise InvalidInput(f"chat_template_kwargs: {error}", param="chat_template_kwargs") from error
    if not isinstance(variables, dict):
        raise InvalidInput("chat_template_kwargs must be an object", param="chat_template_kwargs")
    return variables


def leave_open(rendered: list[dict[str, Any]], last: ChatMessage) -> None:
    """Mark the end of the last of the messages to be rendered; raises `InvalidInput` if it has calls."""
    if last.tool_calls:
        raise InvalidInput(f"{_PARAM}: the last message calls tools; only a text can be continued", param=_PARAM)
    rendered[-1]["content"] += _SPACED


def cut_open(prompt: str) -> str:
    """The prompt up to the mark; raises `InvalidInput` if the template has dropped it."""
    place = prompt.rfind(_MARK)
    if place < 0:
        raise InvalidInput(
            f"{_PARAM}: the model's chat template does not show the end of the last message", param=_PARAM
        )
    return prompt[:place] if prompt.startswith(_SPACED, place) else prompt[:place].rstrip()
