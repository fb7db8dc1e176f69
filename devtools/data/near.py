"""Rows that are nearly an earlier row, or equal one.

MinHash signatures (rensa) of pairs of neighbouring words, cut into bands: rows that agree in a band are candidates
(locality-sensitive hashing). A candidate counts if the Jaccard similarity of both rows' word pairs, computed from
their texts, reaches the threshold. A row is dropped if any row before it is similar, dropped or not. Rows of one
group (the turns of a conversation share their history) are not compared.

Memory: about 40 bytes a row. Signatures and bands are in files.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from devtools.data.columns import Columns, WideColumn
from devtools.data.libraries import load
from devtools.data.repeat import words
from devtools.data.rows import Row
from devtools.data.steps import Flags
from devtools.data.texts import body_of
from shared.errors import InvalidInput

PERMUTATIONS = 128
_SEED = 42
_FIRST = 8
"""Of rows that agree in a band: each is compared with so many of the first ones,"""
_BEFORE = 4
"""and with so many right before it."""
_SLACK = 0.12
"""How far below the threshold the estimate of a candidate may be; its standard deviation is at most 0.045."""
_CHUNK = 1 << 15


def shingles(text: str) -> set[str]:
    """What two texts are compared by: pairs of neighbouring words."""
    found = words(text)
    if len(found) < 2:
        return set(found) or ({text} if text else set())
    return {f"{first} {second}" for first, second in pairwise(found)}


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows of a band): the longest bands that find a pair at the threshold in 99.5 % of cases."""
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= 0.995:
            return bands, rows
    return PERMUTATIONS, 1


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Drops rows that are equal to an earlier one."""

    name: ClassVar[str] = "duplicates"
    version: ClassVar[int] = 1

    def sketch(self, rows: Sequence[Row]) -> Mapping[str, NDArray[Any]]:
        """The ids."""
        ids = np.frombuffer(b"".join(bytes.fromhex(row.id) for row in rows), ">u8").reshape(-1, 2).astype(np.uint64)
        return {"id-0": ids[:, 0], "id-1": ids[:, 1]}

    def decide(self, columns: Columns, row: Callable[[int], Row]) -> Flags:  # noqa: ARG002  # ids say all
        """All but those that have the id of an earlier one."""
        high, low = columns.read("id-0", np.uint64), columns.read("id-1", np.uint64)
        order = np.lexsort((np.arange(len(high)), low, high))
        again = (high[order][1:] == high[order][:-1]) & (low[order][1:] == low[order][:-1])
        stays = np.ones(len(high), np.bool_)
        stays[order[1:][again]] = False
        return stays


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Drops rows that are nearly an earlier one.

    threshold: Jaccard similarity of the word pairs, 0 to 1.
    """

    threshold: float = 0.7
    name: ClassVar[str] = "near-duplicates"
    version: ClassVar[int] = 1
    _bands: tuple[int, int] = field(init=False, default=(0, 0))

    def __post_init__(self) -> None:
        if not 0.3 <= self.threshold <= 1:
            raise InvalidInput(
                f"step near-duplicates: threshold: expected 0.3 to 1, found {self.threshold:g}", param="threshold"
            )
        object.__setattr__(self, "_bands", bands_for(self.threshold))

    def sketch(self, rows: Sequence[Row]) -> Mapping[str, NDArray[Any]]:
        """Of each row: its group, a byte of each number of its signature, and a hash of each band."""
        sets = [list(shingles(body_of(row))) for row in rows]
        matrix = load("rensa").RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, _SEED)
        signatures = np.array(matrix.to_rows(), np.uint32).reshape(len(rows), PERMUTATIONS)
        bands, width = self._bands
        columns: dict[str, NDArray[Any]] = {
            "group": np.array([_hash(row.group) if row.group else 0 for row in rows], np.uint64),
            "signature": (signatures & 0xFF).astype(np.uint8),
            "empty": np.array([not one for one in sets], np.bool_),
        }
        for band in range(bands):
            columns[f"band-{band:03d}"] = _mixed(signatures[:, band * width : (band + 1) * width])
        return columns

    def decide(self, columns: Columns, row: Callable[[int], Row]) -> Flags:
        """All but those that are similar to an earlier row."""
        stays = np.ones(columns.rows, np.bool_)
        for later, _ in self.pairs(columns, row):
            stays[later] = False
        return stays

    def pairs(self, columns: Columns, row: Callable[[int], Row]) -> Iterator[tuple[int, int]]:
        """(row, an earlier row that is similar), once for each row that has one."""
        if columns.rows < 2:
            return
        group, alone = columns.read("group", np.uint64), ~columns.read("empty", np.bool_)
        signatures = columns.wide("signature", PERMUTATIONS)

        @lru_cache(maxsize=4096)
        def of(index: int) -> set[str]:
            return shingles(body_of(row(index)))

        for band in range(self._bands[0]):
            key = columns.read(f"band-{band:03d}", np.uint64)
            for later, earlier in _candidates(key):
                usable = alone[later] & ((group[later] != group[earlier]) | (group[later] == 0))
                for one, other in self._alike(later[usable], earlier[usable], signatures):
                    if alone[one] and _jaccard(of(one), of(other)) >= self.threshold:
                        alone[one] = False
                        yield one, other

    def _alike(
        self, later: NDArray[np.int64], earlier: NDArray[np.int64], signatures: WideColumn
    ) -> Iterator[tuple[int, int]]:
        """Candidates whose signatures agree often enough."""
        for start in range(0, len(later), _CHUNK):
            one, other = later[start : start + _CHUNK], earlier[start : start + _CHUNK]
            agree = (signatures.take(one) == signatures.take(other)).mean(axis=1)
            good = agree >= self.threshold - _SLACK
            yield from zip(one[good].tolist(), other[good].tolist(), strict=True)


def _candidates(key: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(later rows, earlier rows) that have the same key."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    starts = np.concatenate(([0], changes))
    lengths = np.diff(np.concatenate((starts, [len(key)])))
    shared = lengths > 1
    starts, lengths = starts[shared], lengths[shared]
    first = np.repeat(starts, lengths)
    place = np.arange(len(first)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    for offset in range(_FIRST):
        later = place > offset
        yield order[(first + place)[later]], order[(first + offset)[later]]
    for back in range(1, _BEFORE + 1):
        later = place - back >= _FIRST
        yield order[(first + place)[later]], order[(first + place - back)[later]]


def _mixed(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A hash of each row of numbers (FNV-1a over 32-bit words, then a finaliser)."""
    mixed = np.full(len(values), 0xCBF29CE484222325, np.uint64)
    for column in range(values.shape[1]):
        mixed = (mixed ^ values[:, column]) * np.uint64(0x100000001B3)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _jaccard(one: set[str], other: set[str]) -> float:
    shared = len(one & other)
    return shared / max(1, len(one) + len(other) - shared)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") or 1
