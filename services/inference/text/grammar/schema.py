"""The keywords of JSON schema, and the schemas within a schema.

llguidance refuses the keywords of the standard that it can't enforce, by name, and takes unknown ones for
annotations. So a misspelt `maxLenght` would be dropped silently: strict schemas have unknown keywords refused here.
"""

from collections.abc import Callable, Iterator
from typing import Any

from shared.errors import InvalidInput

_ANNOTATIONS = frozenset(
    [
        "title",
        "description",
        "default",
        "example",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$schema",
        "$id",
        "$anchor",
        "id",
    ]
)
_SCHEMA = frozenset(
    [
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
"""Their value is a schema (`items`: or a list of them)."""
_LISTS = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
"""Their value is a list of schemas."""
_MAPS = frozenset(["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"])
"""Their value is an object of schemas."""
_OTHERS = frozenset(
    [
        "$ref",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$vocabulary",
        "const",
        "contentEncoding",
        "contentMediaType",
        "dependencies",
        "dependentRequired",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "nullable",
        "pattern",
        "required",
        "type",
        "uniqueItems",
    ]
)
_KNOWN = _ANNOTATIONS | _SCHEMA | _LISTS | _MAPS | _OTHERS


def check_keywords(schema: dict[str, Any], param: str) -> None:
    """Raise `InvalidInput` for the first keyword that no version of JSON schema has (`x-…` ones are annotations)."""
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        place, each = waiting.pop()
        for name, value in each.items():
            if name not in _KNOWN and not name.startswith("x-"):
                raise InvalidInput(
                    f"{param}: {place}{name} is no JSON schema keyword; correct or remove it, or set strict to false",
                    param=param,
                )
            waiting += [(f"{place}{name}.{path}", child) for path, child in _children(name, value)]


def _children(name: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if name in _MAPS and isinstance(value, dict):
        children = [(f"{key}.", child) for key, child in value.items()]
    elif isinstance(value, list) and (name in _LISTS or name in _SCHEMA):
        children = [(f"{index}.", child) for index, child in enumerate(value)]
    else:
        children = [("", value)] if name in _SCHEMA else []
    yield from ((path, child) for path, child in children if isinstance(child, dict))


def map_schemas(schema: dict[str, Any], change: Callable[[str, str, dict[str, Any]], Any]) -> dict[str, Any]:
    """A copy with each schema directly below replaced by `change(keyword, path below the keyword, schema)`."""
    changed = dict(schema)
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            changed[name] = {
                key: change(name, f"/{_escaped(key)}", child) if isinstance(child, dict) else child
                for key, child in value.items()
            }
        elif isinstance(value, list) and (name in _LISTS or name in _SCHEMA):
            changed[name] = [
                change(name, f"/{index}", child) if isinstance(child, dict) else child
                for index, child in enumerate(value)
            ]
        elif name in _SCHEMA and isinstance(value, dict):
            changed[name] = change(name, "", value)
    return changed


def _escaped(key: str) -> str:
    """A key as JSON pointers write it."""
    return key.replace("~", "~0").replace("/", "~1")
