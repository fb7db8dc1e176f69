"""The grammar of an answer that may, or must, call tools.

If no call is required, an answer is free text until a call begins; its JSON then matches a tool's schema. If the
request also has a JSON grammar for the text, the answer is either calls or text that matches it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from services.inference.text.grammar.source import (
    DEFAULT,
    HEAD,
    GrammarSource,
    SchemaOptions,
    json_rule,
    json_text,
    literal,
    parse_schema,
    with_fallback,
)
from shared.contracts.replica import Grammar, Tool, ToolChoice
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.tool_form import CALL_BEGIN_PARTS, ToolForm

MAX_TOOLS_CHARS = 256 << 10
"""Characters of all tools' schemas together."""
_WITHOUT_EFFECT = frozenset(["type", "properties", "required", "title", "description", "$schema", "$defs"])
"""Keywords that say nothing on arguments where `properties` is empty."""


def tools_grammar(
    tools: Sequence[Tool],
    choice: ToolChoice,
    form: ToolForm,
    *,
    opening_id: int | None = None,
    text: Grammar | None = None,
    options: SchemaOptions = DEFAULT,
) -> GrammarSource:
    """The grammar of an answer.

    Args:
        tools: What can be called.
        choice: Which must be; its mode is not `none`.
        form: How the model writes calls.
        opening_id: The control token that `form.opening` is; None if it is text.
        text: What an answer without calls must match, of the kinds `json_object` and `json_schema`; None: free text.
        options: How schemas are read.

    Raises:
        InvalidInput: A schema is wrong, or `choice` names a tool that is not there; the field is named.
        PayloadTooLarge: The schemas are too large.
    """
    if sum(len(tool.parameters) for tool in tools) > MAX_TOOLS_CHARS:
        raise PayloadTooLarge(f"the tools' schemas have more than {MAX_TOOLS_CHARS} characters", param="tools")
    callable_tools = {
        f"tools.{index}.function.parameters": tool
        for index, tool in enumerate(tools)
        if choice.name in {None, tool.name} and (choice.allowed is None or tool.name in choice.allowed)
    }
    if not callable_tools:
        names = ", ".join(tool.name for tool in tools)
        raise InvalidInput(
            f"tool_choice names {choice.name or choice.allowed!r}, which is none of the tools: {names}",
            param="tool_choice",
        )

    def source(options: SchemaOptions) -> GrammarSource:
        return _source(callable_tools, choice, form, opening_id=opening_id, text=text, options=options)

    return with_fallback(source, options)


def _source(
    tools: Mapping[str, Tool],
    choice: ToolChoice,
    form: ToolForm,
    *,
    opening_id: int | None,
    text: Grammar | None,
    options: SchemaOptions,
) -> GrammarSource:
    """The rules, then a line for each schema: its errors name its field."""
    bodies = {
        param: f"call_{index}: {_body(tool, form, param, options)}"
        for index, (param, tool) in enumerate(tools.items())
    }
    single = choice.name is not None or not choice.parallel
    if text is not None:
        # In Llama's form a call is JSON, too: its head has spaces, which compact JSON has not.
        body = f"text: {json_text(text, options if form.opening else replace(options, compact=True))}"
        if choice.mode == "auto":
            bodies[text.param] = body
    if choice.mode == "required":
        rules = f"start: calls\n{_calls(form, opening_id, single=single)}"
    elif text is not None:
        rules = f"start: calls | text\n{_calls(form, opening_id, single=single)}"
    else:
        rules = _with_text(form, opening_id, single=single)
    calls = " | ".join(f"call_{index}" for index in range(len(tools)))
    lark = f"{HEAD}{rules}\ncall: {calls}\n"
    first = lark.count("\n") + 1
    lines = {first + index: param for index, param in enumerate(bodies)}
    return GrammarSource(lark + "\n".join(bodies.values()), "tools", lines)


def _body(tool: Tool, form: ToolForm, param: str, options: SchemaOptions) -> str:
    schema = parse_schema(tool.parameters, param)
    if isinstance(schema, dict):
        schema = {"type": "object", **schema}
        if schema["type"] != "object":
            raise InvalidInput(f"{param}.type must be 'object': arguments are named", param=param)
    nothing = isinstance(schema, dict) and _takes_nothing(schema)
    arguments = literal("{}") if nothing else json_rule(schema, strict=tool.strict, param=param, options=options)
    head = (*CALL_BEGIN_PARTS, json.dumps(tool.name), ",", " ", f'"{form.arguments}"', ":", " ")
    # The lexer is greedy: where JSON may stand in the place of a call, their lexemes must have the same borders.
    parts = ("".join(head),) if form.opening else head
    return " ".join([*map(literal, parts), arguments, literal("}")])


def _takes_nothing(schema: Mapping[str, Any]) -> bool:
    """Whether a function has no parameters: OpenAI documents that such a function gets `{}`."""
    return not schema.get("properties") and not schema.get("required") and schema.keys() <= _WITHOUT_EFFECT


def _calls(form: ToolForm, opening_id: int | None, *, single: bool) -> str:
    """The rules of an answer that is calls and nothing else."""
    opening = _opening(form, opening_id)
    if form.closing:
        calls = "section" if single else 'section ("\\n" section)*'
        return f"calls: {calls}\nsection: {opening} {_section(form, single=True)} {literal(form.closing)}"
    return f"calls: {opening} {_section(form, single=single)}"


def _with_text(form: ToolForm, opening_id: int | None, *, single: bool) -> str:
    """Text up to the opening, matched lazily: a call begins as soon as the opening is complete."""
    if not form.opening:
        text = r"TEXT: /([ \n\r\t]*[^{ \n\r\t](.|\n)*)?/"
        return f"start: TEXT | SPACE? {_section(form, single=single)}\n{text}\nSPACE: /[ \\n\\r\\t]{{1,2}}/"
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
