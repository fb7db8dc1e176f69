"""Numbers of many rows in files, a file for each column: memory holds the column that is looked at."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Columns:
    """Columns of the same rows, appended block after block.

    Args:
        folder: For the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self.rows = 0

    def append(self, block: Mapping[str, NDArray[Any]], rows: int) -> None:
        """Add the columns of the next `rows` rows."""
        for name, values in block.items():
            assert len(values) == rows, name
            if name not in self._files:
                self._files[name] = (self._folder / f"{name}.column").open("w+b")
            self._files[name].write(np.ascontiguousarray(values).tobytes())
        self.rows += rows

    def read(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """A whole column."""
        if name not in self._files:
            return np.empty(0, dtype)
        self._files[name].flush()
        return np.fromfile(self._folder / f"{name}.column", dtype)

    def close(self) -> None:
        """Remove the files."""
        for name, file in self._files.items():
            file.close()
            (self._folder / f"{name}.column").unlink(missing_ok=True)
        self._files.clear()

    def wide(self, name: str, width: int) -> "WideColumn":
        """A column with `width` bytes for each row, of which rows are read as they are asked for."""
        self._files[name].flush()
        return WideColumn(self._folder / f"{name}.column", width)


class WideColumn:
    """Bytes of rows, in a mapped file whose pages are given back after each look."""

    def __init__(self, path: Path, width: int) -> None:
        self._width = width
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """[len(rows), width]."""
        values = np.frombuffer(self._map, np.uint8).reshape(-1, self._width)[rows]
        self._map.madvise(mmap.MADV_DONTNEED)
        return values
