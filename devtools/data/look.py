"""Some rows of a version, and how two versions differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devtools.data.rows import Row, parse_row, read_rows
from devtools.data.split import share_of
from devtools.data.write import split_of
from shared.contracts.dataset import DatasetManifest

_SHOWN = 5


def rows_of(folder: Path, manifest: DatasetManifest, split: str | None = None) -> Iterator[Row]:
    """The rows of a version, in order; or of one split."""
    for file in manifest.files:
        if split is None or split_of(file.path) == split:
            yield from read_rows(folder / file.path)


def sample(
    folder: Path, manifest: DatasetManifest, count: int, *, seed: int = 0, split: str | None = None
) -> list[Row]:
    """So many rows that the seed chooses, in their order."""
    chosen: list[tuple[float, int, bytes]] = []
    number = 0
    for file in manifest.files:
        if split is not None and split_of(file.path) != split:
            continue
        with (folder / file.path).open("rb") as lines:
            for line in lines:
                number += 1
                place = share_of(str(number), seed)
                if len(chosen) < count or place < chosen[-1][0]:
                    chosen = sorted([*chosen, (place, number, line)])[:count]
    return [parse_row(line, f"row {number}") for _, number, line in sorted(chosen, key=lambda one: one[1])]


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of the one version that the other does not have, by their ids.

    added, removed: how many
    first_added, first_removed: the first ones
    """

    added: int
    removed: int
    same: int
    first_added: Sequence[Row]
    first_removed: Sequence[Row]


def difference(
    before: tuple[Path, DatasetManifest], after: tuple[Path, DatasetManifest], *, shown: int = _SHOWN
) -> Difference:
    """How the rows of two versions differ, in whatever order they are: 16 bytes of memory a row."""
    old, new = _ids(*before), _ids(*after)
    only_new, only_old = np.setdiff1d(new, old), np.setdiff1d(old, new)
    return Difference(
        added=int(np.isin(new, only_new).sum()),
        removed=int(np.isin(old, only_old).sum()),
        same=int(np.isin(new, old).sum()),
        first_added=_first(*after, only_new, shown),
        first_removed=_first(*before, only_old, shown),
    )


def _ids(folder: Path, manifest: DatasetManifest) -> NDArray[np.uint64]:
    return np.fromiter((int(row.id[:16], 16) for row in rows_of(folder, manifest)), np.uint64)


def _first(folder: Path, manifest: DatasetManifest, ids: NDArray[np.uint64], count: int) -> list[Row]:
    if not len(ids) or not count:
        return []
    found = (row for row in rows_of(folder, manifest) if _has(ids, int(row.id[:16], 16)))
    return list(islice(found, count))


def _has(ids: NDArray[np.uint64], value: int) -> bool:
    place = int(np.searchsorted(ids, np.uint64(value)))
    return place < len(ids) and int(ids[place]) == value
