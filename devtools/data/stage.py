"""A stage of preparation: row steps on a block of rows, and what the block gave. The unit of work of a process."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devtools.data.check import Limits, Tally, defects_of
from devtools.data.length import Tokenizer
from devtools.data.rows import Row, parse_row
from devtools.data.split import Split, share_of
from devtools.data.steps import Flags, RowStep, WholeStep

DROPPED = 5
"""Ids of dropped rows that a version records of each step."""
_BATCH = 256
"""Rows that are looked at together."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is done to each block; it is sent to each process once.

    steps: in their order
    whole: the step that ends the stage and needs numbers of each row
    split: in the last stage
    tokenizer: in the last stage: counts tokens
    limits: in the last stage: the rows are checked
    """

    steps: Sequence[RowStep] = ()
    whole: WholeStep | None = None
    split: Split | None = None
    tokenizer: Tokenizer | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows.

    lines: each with its end of line
    split: that all of them are in
    stays: by the whole step of the stage before: which are read; None: all
    share: of rows that are taken, by their ids
    source: number of the input that they come from
    """

    lines: bytes
    split: str
    stays: Flags | None = None
    share: float = 1.0
    source: int = 0


@dataclass(slots=True)
class Count:
    """Of one step on one block."""

    rows_in: int = 0
    rows_out: int = 0
    changed: int = 0
    dropped: list[str] = field(default_factory=list)

    def add(self, other: "Count") -> None:
        """Add the next block's."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.changed += other.changed
        self.dropped.extend(other.dropped[: DROPPED - len(self.dropped)])


@dataclass(slots=True)
class Output:
    """What a block gave.

    lines: of each split, each with its end of line
    rows: how many rows there are in all
    counts: of each step
    columns: what the whole step noted
    sampled: of the share
    tokens: of all rows
    tally: what was found in the rows
    ids: the first half of each row's id
    """

    lines: dict[str, bytes] = field(default_factory=dict)
    rows: int = 0
    counts: list[Count] = field(default_factory=list)
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    sampled: Count = field(default_factory=Count)
    tokens: int = 0
    tally: Tally = field(default_factory=Tally)
    ids: bytes = b""


def run_block(stage: Stage, block: Block) -> Output:
    """Do the stage's work on a block. Nothing but its arguments decides what comes out."""
    output = Output(counts=[Count() for _ in stage.steps])
    parts: dict[str, list[bytes]] = {}
    columns: list[Mapping[str, NDArray[Any]]] = []
    ids = array("Q")
    batch: list[Row] = []

    def note() -> None:
        if stage.whole is not None and batch:
            columns.append(stage.whole.sketch(batch))
        batch.clear()

    for row in _applied(stage, block, output):
        split = stage.split.of(row, block.split) if stage.split is not None else block.split
        parts.setdefault(split, []).append(row.canonical() + b"\n")
        output.rows += 1
        if stage.tokenizer is not None:
            output.tokens += stage.tokenizer.count_row(row)
        if stage.limits is not None:
            name = row.id
            ids.append(int(name[:16], 16))
            for kind in defects_of(row, stage.limits):
                output.tally.add(kind, name[:16])
        if stage.whole is not None:
            batch.append(row)
            if len(batch) == _BATCH:
                note()
    note()
    output.lines = {split: b"".join(lines) for split, lines in parts.items()}
    output.ids = ids.tobytes()
    if columns:
        output.columns = {name: np.concatenate([one[name] for one in columns]) for name in columns[0]}
    return output


def _applied(stage: Stage, block: Block, output: Output) -> Iterator[Row]:
    for row in _read(block, output.sampled):
        rows: Sequence[Row] = (row,)
        for step, count in zip(stage.steps, output.counts, strict=True):
            rows = [made for one in rows for made in _apply(step, one, count)]
        yield from rows


def _apply(step: RowStep, row: Row, count: Count) -> Sequence[Row]:
    made = step.apply(row)
    count.rows_in += 1
    count.rows_out += len(made)
    if not made:
        if len(count.dropped) < DROPPED:
            count.dropped.append(row.id)
    elif made[0] is not row:
        count.changed += 1
    return made


def _read(block: Block, sampled: Count) -> Iterator[Row]:
    for number, line in enumerate(block.lines.splitlines(keepends=True)):
        if block.stays is not None and not block.stays[number]:
            continue
        row = parse_row(line, f"row {number + 1} of a block")
        if block.share < 1:
            sampled.rows_in += 1
            if share_of(row.id) >= block.share:
                continue
            sampled.rows_out += 1
        yield row
