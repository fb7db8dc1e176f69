"""The grammar of an answer that may, or must, call tools.

If no call is required, an answer is free text until a call begins; its JSON then matches a tool's schema.
"""

import re
from collections.abc import Sequence

from services.inference.text.grammar.source import HEAD, GrammarSource, json_rule, literal, parse_schema
from shared.contracts.replica import Tool, ToolChoice
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.tool_form import ToolForm

MAX_TOOLS_CHARS = 256 << 10
"""Characters of all tools' schemas together."""


def tools_grammar(
    tools: Sequence[Tool], choice: ToolChoice, form: ToolForm, *, opening_id: int | None = None
) -> GrammarSource:
    """The grammar of an answer.

    Args:
        tools: What can be called.
        choice: Which must be; its mode is not `none`.
        form: How the model writes calls.
        opening_id: The control token that `form.opening` is; None if it is text.

    Raises:
        InvalidInput: A schema is wrong, or `choice` names a tool that is not there; the field is named.
        PayloadTooLarge: The schemas are too large.
    """
    if sum(len(tool.parameters) for tool in tools) > MAX_TOOLS_CHARS:
        raise PayloadTooLarge(f"the tools' schemas have more than {MAX_TOOLS_CHARS} characters", param="tools")
    bodies = {
        f"tools.{index}.function.parameters": _body(tool, form, f"tools.{index}.function.parameters")
        for index, tool in enumerate(tools)
        if choice.name in {None, tool.name} and (choice.allowed is None or tool.name in choice.allowed)
    }
    if not bodies:
        names = ", ".join(tool.name for tool in tools)
        raise InvalidInput(
            f"tool_choice names {choice.name or choice.allowed!r}, which is none of the tools: {names}",
            param="tool_choice",
        )
    single = choice.name is not None or not choice.parallel
    write = _with_text if choice.mode == "auto" else _forced
    rules = write(form, opening_id, single=single)
    call = "call: " + " | ".join(f"call_{index}" for index in range(len(bodies)))
    lark = f"{HEAD}{rules}\n{call}\n"
    first = lark.count("\n") + 1
    lines = {first + index: param for index, param in enumerate(bodies)}
    lark += "\n".join(f"call_{index}: {body}" for index, body in enumerate(bodies.values()))
    return GrammarSource(lark, "tools", lines)


def _body(tool: Tool, form: ToolForm, param: str) -> str:
    schema = parse_schema(tool.parameters, param)
    if isinstance(schema, dict):
        schema = {"type": "object", **schema}
        if schema["type"] != "object":
            raise InvalidInput(f"{param}.type must be 'object': arguments are named", param=param)
    head = f'{{"name": {literal(tool.name)}, "{form.arguments}": '
    return f"{literal(head)} {json_rule(schema, strict=tool.strict, param=param)} " + literal("}")


def _forced(form: ToolForm, opening_id: int | None, *, single: bool) -> str:
    opening = _opening(form, opening_id)
    if form.closing:
        calls = "section" if single else 'section ("\\n" section)*'
        return f"start: {calls}\nsection: {opening} {_section(form, single=True)} {literal(form.closing)}"
    return f"start: {opening} {_section(form, single=single)}"


def _with_text(form: ToolForm, opening_id: int | None, *, single: bool) -> str:
    """Text up to the opening, matched lazily: a call begins as soon as the opening is complete."""
    if not form.opening:
        return f"start: TEXT | {_section(form, single=single)}\nTEXT: /([^{{](.|\\n)*)?/"
    if opening_id is None:
        begin = f"begin[lazy]: /(.|\\n)*{re.escape(form.opening)}/"
    else:
        begin = f"begin: TEXT {_opening(form, opening_id)}"
    section = f"section: begin {_section(form, single=single or bool(form.closing))}"
    if not form.closing:
        return f"start: TEXT | section\n{section}\n{begin}\nTEXT: /(.|\\n)*/"
    start = "TEXT | section" if single else "section* TEXT"
    return f"start: {start}\n{section} {literal(form.closing)}\n{begin}\nTEXT: /(.|\\n)*/"


def _section(form: ToolForm, *, single: bool) -> str:
    calls = "call" if single else f"call ({literal(form.between)} call)*"
    return " ".join(part for part in (_text(form.before), calls, _text(form.after)) if part)


def _opening(form: ToolForm, opening_id: int | None) -> str:
    return _text(form.opening) if opening_id is None else f"<[{opening_id}]>"


def _text(text: str) -> str:
    return literal(text) if text else ""
