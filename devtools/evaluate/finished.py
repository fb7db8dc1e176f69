"""The scores that an evaluation has so far, in a file: a killed one goes on from there."""

from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson
from pydantic import ValidationError

from devtools.evaluate.runner import Key
from shared.contracts.report import ItemScore


class Finished:
    """Scores by version, suite and item; use it in a `with` block.

    Args:
        path: One JSON line for each score. A line that was cut by a crash is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self.scores: dict[Key, ItemScore] = {}

    def __enter__(self) -> Self:
        whole = self._read()
        self._file = self._path.open("ab")
        self._file.truncate(whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, key: Key, score: ItemScore) -> None:
        """Keep a score; it is in the file when this returns."""
        assert self._file is not None
        self.scores[key] = score
        line = orjson.dumps([key, score.model_dump(mode="json", exclude_defaults=True)])
        self._file.write(line + b"\n")
        self._file.flush()

    def _read(self) -> int:
        """Read what is there; the bytes that are whole lines."""
        if not self._path.exists():
            return 0
        whole = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                (version, suite, item), score = orjson.loads(line)
                self.scores[version, suite, item] = ItemScore.model_validate(score)
            except (ValueError, ValidationError):
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
        return whole
