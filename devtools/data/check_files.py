"""All findings about the rows of files, and facts about them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from devtools.data.check import Checker, Limits
from devtools.data.columns import Columns
from devtools.data.language import language_of
from devtools.data.near import NearDuplicates
from devtools.data.reader import Reader
from devtools.data.row_file import RowFile
from devtools.data.rows import Row
from devtools.data.texts import body_of, texts_of
from devtools.data.version import Progress, read_files
from shared.contracts.dataset import Finding

_BATCH = 256


@dataclass(slots=True)
class Facts:
    """Numbers about rows.

    forms: of each file
    characters: of a row: smallest, median, 95 of 100, largest
    languages: rows of each; those that are not sure are under an empty name
    """

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    forms: dict[str, str] = field(default_factory=dict)
    characters: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Report:
    """What a check gave."""

    findings: Sequence[Finding]
    facts: Facts
    messages: Sequence[str] = ()
    """Of the first objects that can't be rows: the place, the field, and what was expected."""


def check_files(
    paths: Sequence[Path],
    work: Path,
    *,
    form: str | None = None,
    limits: Limits | None = None,
    near: NearDuplicates | None = None,
    progress: Progress = lambda _step, _done: None,
) -> Report:
    """Check the rows of files.

    Args:
        paths: Files of rows.
        work: A folder for what is needed meanwhile: with `near`, the rows once more and 800 bytes for each.
        form: A key of `FORMS`; None: each file's is detected.
        limits: Of a row.
        near: Also look for near-duplicates.
        progress: Called now and then.
    """
    checker, facts, messages = Checker(limits), Facts(), list[str]()
    readers: list[Reader] = []
    lengths: list[int] = []
    with closing(_Search(near, work)) if near is not None else nullcontext() as search:
        for located in read_files(paths, form, readers, progress):
            checker.add(located)
            if located.defect is not None and len(messages) < 10:
                messages.append(str(located.defect))
            for row in located.rows:
                facts.rows += 1
                facts.kinds[row.kind] += 1
                facts.languages[language_of(body_of(row))] += 1
                lengths.append(sum(map(len, texts_of(row))))
                if search is not None:
                    search.add(row)
        facts.forms = {reader.path.name: reader.form or "empty" for reader in readers}
        if lengths:
            low, middle, high, most = np.percentile(lengths, (0, 50, 95, 100), method="nearest")
            facts.characters = (int(low), int(middle), int(high), int(most))
        if search is not None:
            for index, other in search.pairs():
                if not search.equal(index, other):
                    checker.tally.add("near_duplicate", checker.place(index))
            progress("near", 1.0)
    return Report(checker.findings(), facts, messages)


class _Search:
    """Near-duplicates among rows that come one by one."""

    def __init__(self, step: NearDuplicates, work: Path) -> None:
        self._step = step
        self._rows = RowFile(work / "rows.jsonl")
        self._columns = Columns(work)
        self._batch: list[Row] = []

    def add(self, row: Row) -> None:
        self._batch.append(row)
        if len(self._batch) == _BATCH:
            self._note()

    def pairs(self) -> Iterator[tuple[int, int]]:
        self._note()
        return iter(sorted(self._step.pairs(self._columns, self._rows.row)))

    def equal(self, one: int, other: int) -> bool:
        """Equal rows are a finding of their own."""
        return self._rows.row(one).id == self._rows.row(other).id

    def close(self) -> None:
        """Remove the files."""
        self._rows.close()
        self._columns.close()

    def _note(self) -> None:
        if self._batch:
            self._columns.append(self._step.sketch(self._batch), len(self._batch))
            self._rows.append(b"".join(row.canonical() + b"\n" for row in self._batch), "")
            self._batch.clear()
