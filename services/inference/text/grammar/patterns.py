"""The patterns of a schema that is not strict: those that cannot be enforced are left to the model."""

import re
from typing import Any

from services.inference.text.grammar.schema import map_schemas

_NOT_REGULAR = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?<?[=!]|\\[1-9bBk])")
"""Look-around, word boundaries and back references."""


def without_irregular_patterns(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without the patterns that no grammar can have."""
    return _without(schema, every=False)


def without_patterns(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without any pattern."""
    return _without(schema, every=True)


def _without(schema: dict[str, Any], *, every: bool) -> dict[str, Any]:
    left = dict(schema)
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and (every or _NOT_REGULAR.search(pattern)):
        del left["pattern"]
    named = schema.get("patternProperties")
    if isinstance(named, dict):
        enforced = {} if every else {name: each for name, each in named.items() if not _NOT_REGULAR.search(name)}
        if len(enforced) < len(named):
            left["patternProperties"] = enforced
            left["additionalProperties"] = True  # a property that no other keyword names may be one of these
    return map_schemas(left, lambda _keyword, _path, child: _without(child, every=every))
