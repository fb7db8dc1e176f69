"""Grammars of requests, translated to llguidance's Lark dialect.

The translation is fast enough for the event loop; compiling is not part of it.
Source of the dialect: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llguidance import regex_to_lark

from services.inference.text.grammar.schema import check_keywords
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput

MAX_SOURCE = 256 << 10
"""Characters that a grammar may have."""
MAX_DEPTH = 64
"""Levels of a JSON schema."""
HEAD = '%llguidance {"no_forcing": true}\n'
"""Without it, a mask first computes all bytes that have no alternative: for `(a{1000}){1000}` that takes seconds,
which no limit of the library bounds."""
WHITESPACE = r"[ \n\r\t]{0,20}"
"""Between the parts of JSON. Bounded: small models otherwise repeat line breaks without end."""


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """What an answer must match, as text."""

    lark: str
    param: str
    """The field of the client's request that errors name."""
    lines: Mapping[int, str] = field(default_factory=dict)
    """Fields that stand in single lines of `lark`, by line from 1: errors there name them."""


def grammar_source(grammar: Grammar) -> GrammarSource:
    """The source of a request's grammar; raises `InvalidInput` naming the field."""
    param, value = grammar.param, grammar.value
    if len(value) > MAX_SOURCE:
        raise InvalidInput(f"{param} has {len(value)} characters; at most {MAX_SOURCE} are taken", param=param)
    match grammar.kind:
        case "json_object":
            start = "start: " + json_rule({"type": "object"}, strict=True, param=param)
        case "json_schema":
            start = "start: " + json_rule(parse_schema(value, param), strict=grammar.strict, param=param)
        case "regex":
            start = _regex(value, param)
        case "choice":
            start = "start: " + " | ".join(literal(choice) for choice in _choices(value, param))
        case "lark":
            start = _lark(value, param)
    return GrammarSource(HEAD + start, param)


def json_rule(schema: Any, *, strict: bool, param: str) -> str:
    """A JSON schema as a part of a Lark rule.

    Args:
        schema: Parsed.
        strict: Whether a keyword that can't be enforced is an error; otherwise it is left to the model.
        param: The field that errors name.

    Raises:
        InvalidInput: It is no schema, or it has a keyword that can't be enforced.
    """
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidInput(f"{param} must be a JSON schema: an object", param=param)
    if strict:
        check_keywords(schema, param)
    options = {"whitespace_pattern": WHITESPACE, "lenient": not strict}
    return "%json " + json.dumps({**schema, "x-guidance": options}, ensure_ascii=False)


def parse_schema(text: str, param: str) -> Any:
    """A JSON schema from its text; raises `InvalidInput`."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{param} is not JSON: {error}", param=param) from error
    if _depth(schema) > MAX_DEPTH:
        raise InvalidInput(f"{param} is nested more than {MAX_DEPTH} levels deep; use $defs and $ref", param=param)
    return schema


def literal(text: str) -> str:
    """A text as a part of a Lark rule."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", r"\u007f")  # JSON takes DEL, Lark does not


def _regex(pattern: str, param: str) -> str:
    if not pattern:
        raise InvalidInput(f"{param} is empty: no answer would match it but an empty one", param=param)
    return f"start: /{regex_to_lark(pattern, 'd')}/"  # \d is 0 to 9


def _choices(value: str, param: str) -> list[str]:
    choices = json.loads(value)
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise InvalidInput(f"{param} must be a list of texts, none of them empty", param=param)
    return choices


def _lark(text: str, param: str) -> str:
    if "%llguidance" in text:  # it could switch forcing on again
        raise InvalidInput(f"{param} must not contain %llguidance options", param=param)
    return text


def _depth(value: Any) -> int:
    """Levels of nesting, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
    return depth
