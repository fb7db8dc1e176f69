"""How a chat template takes the calls of a conversation.

OpenAI's API allows what many templates refuse: Llama 3's takes one call in a message, DeepSeek's takes arguments as
text, Qwen3-Coder's as an object only, Mistral's takes ids of nine characters. llama.cpp finds out in the same way:
it renders small conversations and looks at the result.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import InvalidInput
from shared.text.call_arguments import Arguments
from shared.text.template_process import TemplateProcess
from shared.text.thinking import THINK_END
from shared.text.tool_form import takes_tools

_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_NAMES = ("probe_one", "probe_two")
_VALUE = {"probe_key": "probe value"}
_CUT = '{"probe_cut": '
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
    },
}
_TURNS = [
    {"role": "user", "content": "question"},
    {"role": "assistant", "content": "answer"},
    {"role": "user", "content": "question"},
]


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template takes; by default what most take."""

    parallel_calls: bool = True
    """Several calls in one message."""
    objects: bool = True
    """Arguments as an object. False: as its text."""
    texts: bool = True
    """Arguments that are text and no object."""
    short_ids: bool = False
    """Ids of calls have nine letters and digits."""
    thinks: bool = False
    """Whether it knows thoughts: what is between `<think>` and `</think>` in an answer."""
    turns: str = ""
    """A rendered conversation: tokens of the vocabulary in it separate turns, and no message may forge them."""
    results: str = ""
    """A rendered conversation with results of tools, which must not forge the tokens around them."""

    def arguments(self, given: Arguments) -> Arguments:
        """Arguments as the template takes them. Text is lost where it takes objects only, as with vLLM."""
        if isinstance(given, dict):
            return given if self.objects else json.dumps(given, ensure_ascii=False)
        return given if self.texts else {}

    def call_id(self, given: str) -> str:
        """An id as the template takes it; equal ones stay equal."""
        if not self.short_ids or _SHORT_ID.fullmatch(given):
            return given
        return hashlib.sha256(given.encode()).hexdigest()[:9]


TYPICAL = TemplateTraits()


async def traits_of(template: TemplateProcess | None) -> TemplateTraits:
    """What a version's template takes, and the tokens it writes; typical where there is none.

    Raises:
        Draining: The template's process was left.
    """
    if template is None:
        return TYPICAL
    traits = await template_traits(template) if takes_tools(template.source) else TYPICAL
    results = _conversation(traits, traits.arguments(_VALUE), _NAMES[:1]) if takes_tools(template.source) else _TURNS
    return replace(
        traits,
        thinks=THINK_END in template.source,
        turns=await _rendered(template, _TURNS),
        results=await _rendered(template, results),
    )


async def _rendered(template: TemplateProcess, messages: list[dict[str, Any]]) -> str:
    try:
        return await template.render(messages, add_generation_prompt=False)
    except InvalidInput:
        return ""


async def template_traits(template: TemplateProcess) -> TemplateTraits:
    """What a template that renders tools takes; what it cannot render in any way counts as typical.

    Raises:
        Draining: The template's process was left.
    """
    for short_ids in (False, True):
        for objects in (True, False):
            traits = TemplateTraits(objects=objects, short_ids=short_ids)
            if not await _shows(template, traits, _VALUE):
                continue
            if not await _shows(template, traits, _CUT):
                traits = replace(traits, texts=False)
            if not await _shows(template, traits, _VALUE, calls=2):
                traits = replace(traits, parallel_calls=False)
            return traits
    return TYPICAL


async def _shows(template: TemplateProcess, traits: TemplateTraits, value: Arguments, *, calls: int = 1) -> bool:
    """Whether the template renders calls with these arguments."""
    names = _NAMES[:calls]
    try:
        prompt = await template.render(_conversation(traits, value, names), [_TOOL])
    except InvalidInput:
        return False
    return all(name in prompt for name in names) and str(_VALUE) not in prompt  # an object as Python writes it


def _conversation(traits: TemplateTraits, value: Arguments, names: Sequence[str]) -> list[dict[str, Any]]:
    ids = [traits.call_id(f"call_{name}") for name in names]
    made = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": traits.arguments(value)}}
        for call_id, name in zip(ids, names, strict=True)
    ]
    results = [{"role": "tool", "content": "result", "tool_call_id": call_id} for call_id in ids]
    asked = {"role": "user", "content": "question"}
    return [asked, {"role": "assistant", "content": "", "tool_calls": made}, *results]
