"""Parameters of OpenAI's and vLLM's requests that are not fields of our request models.

Those without effect here are accepted. Those known but not supported yet are accepted only with a value that means
"off". Unknown ones are refused by name: a misspelt `temperatur` that is silently dropped costs an afternoon.
"""

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidInput

_HARMLESS = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
_NOT_YET: Mapping[str, tuple[Any, ...]] = {
    # OpenAI's
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "moderation": (),
    "suffix": ("",),
    # vLLM's
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "truncate_prompt_tokens": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (),
    "documents": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "priority": (0,),
}
_MESSAGE_HARMLESS = frozenset({"parsed", "annotations"})
"""`parsed` is what OpenAI's packages add to a message that they have parsed: they send it back, as all they got."""
_MESSAGE_NOT_YET: Mapping[str, tuple[Any, ...]] = {"function_call": (), "audio": ()}


def check_parameter(name: str, value: object) -> None:
    """Raise `InvalidInput` unless a parameter that is no field of the request may stand there."""
    if name not in _HARMLESS:
        _check(name, value, name, _NOT_YET)


def check_message_field(index: int, name: str, value: object) -> None:
    """Raise `InvalidInput` unless a field that is none of `Message` may stand in the message at `index`.

    Null is no content: other servers write their own fields so, and clients send them back.
    """
    if value is not None and name not in _MESSAGE_HARMLESS:
        _check(f"messages.{index}.{name}", value, name, _MESSAGE_NOT_YET)


def _check(param: str, value: object, name: str, not_yet: Mapping[str, tuple[Any, ...]]) -> None:
    if name not in not_yet:
        raise InvalidInput(f"unrecognized request argument: {param:.200}", param=param[:200])
    if value is None or any(type(value) is type(off) and value == off for off in _with_floats(not_yet[name])):
        return
    raise InvalidInput(f"{param} is not supported yet", param=param)


def _with_floats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """0 and 0.0 both mean off; True and 1 do not mean the same."""
    return (*values, *(float(value) for value in values if type(value) is int))
