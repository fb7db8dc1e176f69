"""Versions of datasets: shards in a folder, and the manifest that describes them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from devtools.data.check import Checker
from devtools.data.defects import Defect
from devtools.data.reader import Located, Reader, source_of
from devtools.data.rows import Row
from devtools.data.write import ShardWriter
from shared.contracts.dataset import DatasetManifest, Finding, Rows, Source, Step
from shared.contracts.manifest import Digest
from shared.errors import CorruptFile, InvalidInput

KINDS: Mapping[str, Rows] = {"text": "text", "turn": "turns", "pair": "pairs", "item": "evaluation"}
"""Of a row's kind, what a dataset of such rows is."""
SPLITS = ("train", "validation", "test")
ITEMS = "items"
"""The split of a suite."""

_BROKEN = 5
"""Defects that an import names."""
Progress = Callable[[str, float], None]
"""Called with the name of a step and how much of it is done, 0 to 1."""


class Shards:
    """Takes rows in their order and writes each split to shards; use it in a `with` block.

    Raises:
        InvalidInput: Rows of two kinds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, ShardWriter] = {}
        self._stack = ExitStack()
        self.rows: Rows | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, row: Row, where: str, split: str = "train") -> None:
        """Write a row of a split; `where` stands in errors."""
        self.is_of(KINDS[row.kind], where)
        self.write_line(row.canonical() + b"\n", ITEMS if row.kind == "item" else split)

    def write_line(self, line: bytes, split: str) -> None:
        """Write a row that is encoded already."""
        if split not in self._writers:
            self._writers[split] = self._stack.enter_context(ShardWriter(self._folder, split))
        self._writers[split].write_line(line)

    def is_of(self, rows: Rows, where: str) -> None:
        """Note what the rows are."""
        if self.rows is None:
            self.rows = rows
        elif self.rows != rows:
            raise InvalidInput(
                f"{where}: gives {rows}, and the rows before it are {self.rows}; make a dataset of each kind",
                param="source",
            )

    def manifest(
        self,
        *,
        parents: Sequence[Digest] = (),
        sources: Sequence[Source] = (),
        steps: Sequence[Step] = (),
        findings: Sequence[Finding] = (),
        tokens: Mapping[str, int] | None = None,
        license: str | None = None,  # noqa: A002  # the manifest's word
        statement: str | None = None,
    ) -> DatasetManifest:
        """What was written; after the `with` block."""
        if self.rows is None:
            raise InvalidInput("there is no row left: a version needs at least one", param="source")
        order = {name: index for index, name in enumerate(SPLITS)}
        writers = sorted(self._writers.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
        return DatasetManifest(
            files=tuple(file for _, writer in writers for file in writer.files),
            rows=self.rows,
            splits={split: writer.rows for split, writer in writers},
            parents=tuple(parents),
            sources=tuple(sources),
            steps=tuple(steps),
            findings=tuple(findings),
            tokens=dict(tokens or {}),
            license=license,
            statement=statement,
        )


@dataclass(frozen=True, slots=True)
class Imported:
    """A manifest, with what is not in its files.

    ignored: by file, keys that were not read
    skipped: the first defects whose rows were left out
    skipped_count: how many there are
    """

    manifest: DatasetManifest
    ignored: Mapping[str, Counter[str]] = field(default_factory=dict)
    skipped: Sequence[Defect] = ()
    skipped_count: int = 0


def import_files(
    paths: Sequence[Path],
    folder: Path,
    *,
    form: str | None = None,
    skip_broken: bool = False,
    license: str | None = None,  # noqa: A002
    statement: str | None = None,
    progress: Progress = lambda _step, _done: None,
) -> Imported:
    """Read files of rows, check them, and write them as the files of a version.

    Args:
        paths: Files, in the order of the rows.
        folder: For the shards.
        form: A key of `FORMS`; None: each file's is detected.
        skip_broken: Leave out what can't be a row, instead of refusing the files.
        license: Of the rows.
        statement: Who made them, when, with whose consent.
        progress: Called now and then.

    Raises:
        NotFound, UnsupportedFormat: A file can't be read.
        CorruptFile: Some objects can't be rows; the message names the first ones.
        InvalidInput: No rows, or rows of two kinds.
    """
    checker = Checker()
    broken: list[Defect] = []
    count = 0
    readers: list[Reader] = []
    with Shards(folder) as shards:
        for located in read_files(paths, form, readers, progress):
            if located.defect is not None:
                count += 1
                if count <= _BROKEN:
                    broken.append(located.defect)
            checker.add(located)
            for row in located.rows:
                shards.write(row, located.where, located.split if located.split in SPLITS else "train")
    if broken and not skip_broken:
        raise CorruptFile(broken_message(broken, count), param="source")
    manifest = shards.manifest(
        sources=[source_of(reader.path, reader) for reader in readers],
        findings=checker.findings(),
        license=license,
        statement=statement,
    )
    return Imported(
        manifest, {reader.path.name: reader.ignored for reader in readers if reader.ignored}, broken, count
    )


def read_files(
    paths: Sequence[Path], form: str | None, readers: list[Reader], progress: Progress
) -> Iterator[Located]:
    """The objects of files in order; a reader for each file is added to `readers`."""
    for index, path in enumerate(paths):
        reader = Reader(path, form)
        readers.append(reader)
        yield from reader.read(lambda share, index=index: progress("read", (index + share) / len(paths)))  # type: ignore[misc]
    progress("read", 1.0)


def broken_message(broken: Sequence[Defect], count: int) -> str:
    """The first defects, how many there are, and what to do."""
    lines = "; ".join(map(str, broken))
    more = f"; and {count - len(broken)} more" if count > len(broken) else ""
    return f"{lines}{more}. Mend them, or leave them out with --skip-broken"
