"""Closes the objects of a schema: they have the properties that it names, and no others.

JSON schema allows an object to have other properties unless the schema says `additionalProperties: false`, which
clients rarely write; small models then invent some. llama.cpp and xgrammar close objects as well.
"""

from typing import Any

from services.inference.text.grammar.schema import map_schemas

_SAME_VALUE = frozenset(["allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas"])
"""Their schemas apply to the same value as the schema that has them."""
_REFERENCES = frozenset(["$ref", "$dynamicRef", "$recursiveRef"])
_OPEN = frozenset(["additionalProperties", "patternProperties", "unevaluatedProperties"])
"""With one of these, the schema says itself which other properties there may be."""
_OF_OBJECTS = _OPEN | {"properties", "required"}
_ROUNDS = 4


def close_objects(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` in each object that has `properties` and says nothing else.

    An object stays as it is where several schemas apply to it (`allOf`, `$ref` beside `properties`, …), because each
    of them would exclude the properties of the others, and where it must have properties that it does not name.
    """
    shared: set[str] = set()
    for _ in range(_ROUNDS):
        known = len(shared)
        closed = _close(schema, "#", alone=True, shared=shared)
        if len(shared) == known:
            return closed
    return schema


def _close(schema: dict[str, Any], path: str, *, alone: bool, shared: set[str]) -> dict[str, Any]:
    """Close a schema and those below.

    Args:
        schema: What to close.
        path: Where it is, as a JSON pointer.
        alone: Whether no other schema applies to the same value.
        shared: Paths of schemas that are referenced beside others; those found here are added.
    """
    alone = alone and path not in shared
    single = alone and _applied(schema) + bool(_OF_OBJECTS & schema.keys()) <= 1
    reference = schema.get("$ref")
    if isinstance(reference, str) and not single:
        shared.add(reference)

    def close_child(keyword: str, below: str, child: dict[str, Any]) -> dict[str, Any]:
        of_same_value = keyword in _SAME_VALUE
        return _close(child, f"{path}/{keyword}{below}", alone=single if of_same_value else True, shared=shared)

    closed = map_schemas(schema, close_child)
    return {**closed, "additionalProperties": False} if alone and _is_closable(schema) else closed


def _applied(schema: dict[str, Any]) -> int:
    """How many schemas a value must match beside this one; those of `anyOf` count as one."""
    every = schema.get("allOf")
    parts = len(every) if isinstance(every, list) else 0
    return parts + sum(keyword in schema for keyword in (_SAME_VALUE | _REFERENCES) - {"allOf"})


def _is_closable(schema: dict[str, Any]) -> bool:
    names = schema.get("properties")
    if not isinstance(names, dict) or _OPEN & schema.keys() or _applied(schema):
        return False
    required, least = schema.get("required", []), schema.get("minProperties", 0)
    return (
        isinstance(required, list)
        and all(name in names for name in required if isinstance(name, str))
        and isinstance(least, int)
        and least <= len(names)
    )
