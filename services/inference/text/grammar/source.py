"""Grammars of requests, translated to llguidance's Lark dialect.

The translation is fast enough for the event loop; compiling is not part of it.
Source of the dialect: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llguidance import regex_to_lark

from services.inference.text.grammar.closed_objects import close_objects
from services.inference.text.grammar.patterns import without_irregular_patterns, without_patterns
from services.inference.text.grammar.schema import check_keywords
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput
from shared.panics import no_panics

MAX_SOURCE = 256 << 10
"""Characters that a grammar may have."""
MAX_DEPTH = 64
"""Levels of a JSON schema."""
HEAD = '%llguidance {"no_forcing": true}\n'
"""Without it, a mask first computes all bytes that have no alternative: for `(a{1000}){1000}` that takes seconds,
which no limit of the library bounds."""
WHITESPACE = r"[ \n]"
"""At most once between the parts of JSON. Small models otherwise repeat spaces and line breaks without end."""


@dataclass(frozen=True, slots=True)
class GrammarSource:
    """What an answer must match, as text."""

    lark: str
    param: str
    """The field of the client's request that errors name."""
    lines: Mapping[int, str] = field(default_factory=dict)
    """Fields that stand in single lines of `lark`, by line from 1: errors there name them."""
    fallback: str | None = None
    """The Lark source to use if `lark` does not compile: without the patterns of schemas that are not strict."""


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """How the schemas of a grammar are read."""

    close_objects: bool = True
    """Whether an object of a schema that is not strict has no properties but those that the schema names, unless the
    schema says otherwise."""
    patterns: bool = True
    """Whether patterns of schemas that are not strict are enforced, as far as they can be."""
    compact: bool = False
    """Whether JSON has no white space between its parts."""


DEFAULT = SchemaOptions()


def grammar_source(grammar: Grammar, options: SchemaOptions = DEFAULT) -> GrammarSource:
    """The source of a request's grammar; raises `InvalidInput` naming the field."""
    return with_fallback(lambda each: GrammarSource(HEAD + _rules(grammar, each), grammar.param), options)


def with_fallback(make: Callable[[SchemaOptions], GrammarSource], options: SchemaOptions) -> GrammarSource:
    """The source that `make` makes; its fallback is the one without patterns, if that differs."""
    source, fallback = make(options), make(replace(options, patterns=False))
    return source if source.lark == fallback.lark else replace(source, fallback=fallback.lark)


def _rules(grammar: Grammar, options: SchemaOptions) -> str:
    param, value = grammar.param, grammar.value
    match grammar.kind:
        case "json_object" | "json_schema":
            return f"start: {json_text(grammar, options)}"
        case "regex":
            return _regex(check_size(value, param), param)
        case "choice":
            return "start: " + " | ".join(literal(choice) for choice in _choices(check_size(value, param), param))
        case "lark":
            return _lark(check_size(value, param), param)


def check_size(text: str, param: str) -> str:
    """The text; raises `InvalidInput` if it is too long for a grammar."""
    if len(text) > MAX_SOURCE:
        raise InvalidInput(f"{param} has {len(text)} characters; at most {MAX_SOURCE} are taken", param=param)
    return text


def json_text(grammar: Grammar, options: SchemaOptions = DEFAULT) -> str:
    """A request's grammar of the kinds `json_object` and `json_schema` as a part of a Lark rule.

    Raises `InvalidInput` naming the field.
    """
    if grammar.kind == "json_object":
        return json_rule({"type": "object"}, strict=True, param=grammar.param, options=options)
    schema = parse_schema(check_size(grammar.value, grammar.param), grammar.param)
    return json_rule(schema, strict=grammar.strict, param=grammar.param, options=options)


def json_rule(schema: Any, *, strict: bool, param: str, options: SchemaOptions = DEFAULT) -> str:
    """A JSON schema as a part of a Lark rule.

    Args:
        schema: Parsed.
        strict: Whether a keyword that can't be enforced is an error; otherwise it is left to the model.
        param: The field that errors name.
        options: How it is read.

    Raises:
        InvalidInput: It is no schema, or it has a keyword that can't be enforced.
    """
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidInput(f"{param} must be a JSON schema: an object", param=param)
    if strict:
        check_keywords(schema, param)
    else:
        schema = without_irregular_patterns(schema) if options.patterns else without_patterns(schema)
        schema = close_objects(schema) if options.close_objects else schema
    space = {"whitespace_flexible": False} if options.compact else {"whitespace_pattern": WHITESPACE}
    text = json.dumps({**schema, "x-guidance": {**space, "lenient": not strict}}, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{param} has half a surrogate pair, which is no character", param=param) from error
    return f"%json {text}"


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
    with no_panics(lambda reason: InvalidInput(f"{param} can't be read: {reason}", param=param)):
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
