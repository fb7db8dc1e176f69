r"""How a model writes tool calls, found in its chat template.

| form | an answer with calls |
|---|---|
| Hermes (Qwen, SmolLM2; the default) | `text <tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call>`, repeated |
| Llama 3 | `{"name": "f", "parameters": {…}}`, repeated with `; ` between; nothing else in the answer |
| Mistral | `text [TOOL_CALLS] [{"name": "f", "arguments": {…}}, …]` |
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolForm:
    """One of the forms."""

    name: str
    opening: str
    """Begins calls in a text. Empty: an answer that begins with `{` consists of calls."""
    arguments: str
    """The key of a call's arguments."""
    closing: str = ""
    """Ends each call; text may follow. Empty: calls are the rest of the answer."""
    before: str = ""
    """Precedes each list of calls."""
    between: str = ""
    after: str = ""
    """Follows each list of calls."""
    id_prefix: str = "call_"
    id_chars: int = 24
    """Letters and digits of a call's id, after its prefix."""


HERMES = ToolForm(
    "hermes", opening="<tool_call>", arguments="arguments", closing="</tool_call>", before="\n", after="\n"
)
LLAMA = ToolForm("llama", opening="", arguments="parameters", between="; ")
MISTRAL = ToolForm(
    "mistral",
    opening="[TOOL_CALLS]",
    arguments="arguments",
    before=" [",
    between=", ",
    after="]",
    id_prefix="",
    id_chars=9,
)

CALL_BEGIN_PARTS = ("{", '"name"', ":", " ")
CALL_BEGIN = "".join(CALL_BEGIN_PARTS)
"""How the JSON of each call begins."""

_TAKES_TOOLS = re.compile(r"\btools\b")


def takes_tools(template: str | None) -> bool:
    """Whether a chat template renders tools."""
    return template is not None and _TAKES_TOOLS.search(template) is not None


def tool_form(template: str | None) -> ToolForm:
    """The form that a chat template defines; Hermes if it defines none."""
    if template is None or not takes_tools(template) or HERMES.opening in template:
        return HERMES
    if MISTRAL.opening in template:
        return MISTRAL
    return LLAMA if '"parameters": ' in template and "<|eot_id|>" in template else HERMES
