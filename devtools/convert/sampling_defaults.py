"""The sampling parameters that a model's authors recommend, checked before they become a version's defaults."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shared.contracts.sampling import version_defaults
from shared.errors import CorruptFile


def read_defaults(values: Mapping[str, Any], names: Mapping[str, str], *, where: str) -> dict[str, float | int | str]:
    """`Manifest.defaults` from a file.

    Args:
        values: What the file says; null is nothing.
        names: The file's keys, and what a manifest calls them.
        where: The file, for messages.

    Raises:
        CorruptFile: not a number, or outside the range that a request may have.
    """
    defaults: dict[str, float | int | str] = {}
    for key, name in names.items():
        value = values.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CorruptFile(f"{where}: {key!r} is {str(value)[:80]!r}, expected a number", param="source")
        if name == "max_new_tokens" and value < 1:
            raise CorruptFile(f"{where}: {key!r} is {value}, expected at least 1", param="source")
        try:
            version_defaults({name: value})
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise CorruptFile(
                f"{where}: {key!r} is {value}, which no request could have: {reason}; correct or remove it",
                param="source",
            ) from None
        defaults[name] = value
    return defaults
