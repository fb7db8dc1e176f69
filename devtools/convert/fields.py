"""Reads typed values of a model's metadata (a GGUF's keys, a `config.json`), or says what is wrong with them."""

import math
from collections.abc import Mapping
from typing import Any

from shared.errors import CorruptFile, UnsupportedFormat

_LIMIT = 1 << 24
"""No dimension of a real model is larger; a larger one is a damaged or hostile file."""


class Fields:
    """The values of `values` under keys that begin with `prefix`; an absent key and one that is null are the same."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def get(self, key: str) -> Any:
        """The value as it is; None if there is none."""
        return self._values.get(self._prefix + key)

    def count(self, key: str, default: int | None = None) -> int:
        """An integer from 1 on."""
        value = self._given(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LIMIT:
            raise self._wrong(key, value)
        return value

    def positive(self, key: str, default: float | None = None, *, above: float = 0) -> float:
        """A finite number above 0, or `above`."""
        value = self._given(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not above < value < math.inf:
            raise self._wrong(key, value)
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._given(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value)
        return value

    def inside(self, key: str) -> "Fields | None":
        """The values of a nested object; None if there is none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, value)
        return Fields(value)

    def _given(self, key: str, default: Any) -> Any:
        value = self.get(key)
        return default if value is None else value

    def _wrong(self, key: str, value: Any) -> CorruptFile:
        full = self._prefix + key
        if value is None:
            return CorruptFile(f"the key {full!r} is missing", param="source")
        if isinstance(value, list):
            raise UnsupportedFormat(f"{full!r} differs from layer to layer; that is not supported", param="source")
        return CorruptFile(f"the key {full!r} has the impossible value {value!r}", param="source")
