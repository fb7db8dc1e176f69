"""Rows of files, each with its place, in bounded memory; what can't be a row is a defect with its place."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools.data.defects import Broken, Defect
from devtools.data.files import Found, is_text, read_objects
from devtools.data.forms import FORMS, form_of, rows_of
from devtools.data.rows import Row
from shared.contracts.dataset import Source
from shared.errors import UnsupportedFormat

_GROUP_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Located:
    """What an object of a file gave.

    where: `chats.jsonl:17`
    rows: none where there is a defect
    own_id: what its key `id` says
    split: what its key `split` says
    """

    where: str
    rows: Sequence[Row] = ()
    defect: Defect | None = None
    own_id: str = ""
    split: str = ""


@dataclass(slots=True)
class Reader:
    """Reads one file; after the last row the counts are complete.

    path: the file
    form: a key of `FORMS`; None: that of the first object
    rows: how many rows it gave
    objects: how many objects the file has
    ignored: keys that were not read, and how often they are there
    """

    path: Path
    form: str | None = None
    rows: int = 0
    objects: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    def read(self, at: Callable[[float], None] = lambda _: None) -> Iterator[Located]:
        """All objects of the file in order.

        Args:
            at: Called now and then with how much of the file was read, 0 to 1.

        Raises:
            NotFound: No such file.
            UnsupportedFormat: A file of another kind, or of no known form.
            CorruptFile: It can't be read at all.
        """
        if self.form is None and is_text(self.path):
            self.form = "text"
        for number, value in read_objects(self.path, at):
            self.objects += 1
            located = self._located(number, value)
            self.rows += len(located.rows)
            yield located

    def _located(self, number: int, value: Found | dict[str, Any] | Broken) -> Located:
        where = f"{self.path.name}:{number}"
        own_id = split = ""
        try:
            if isinstance(value, Broken):
                raise value
            assert isinstance(value, dict)
            own_id = str(value.get("id") or "")
            split = value["split"] if isinstance(value.get("split"), str) else ""
            rows = self._rows(value, where)
        except Broken as broken:
            return Located(where, defect=Defect(broken.kind, where, broken.message), own_id=own_id, split=split)
        return Located(where, rows, own_id=own_id, split=split)

    def _rows(self, value: dict[str, Any], where: str) -> list[Row]:
        if self.form is None:
            self.form = form_of(value)
        if self.form is None:
            raise UnsupportedFormat(
                f"{where}: no known form of rows: it has the keys {', '.join(sorted(value)) or 'none'};"
                f" expected one of {', '.join(FORMS)}",
                param="source",
            )
        rows = rows_of(value, self.form)
        self.ignored.update(value.keys() - FORMS[self.form].keys)
        return _grouped(rows, value.get("group"))


def _grouped(rows: list[Row], group: Any) -> list[Row]:
    """Rows of one conversation are a group, also where the file names none."""
    if group:
        return [row if row.group else row.model_copy(update={"group": str(group)[:256]}) for row in rows]
    if len(rows) > 1:
        name = rows[-1].id[:_GROUP_DIGITS]
        return [row.model_copy(update={"group": name}) for row in rows]
    return rows


def source_of(path: Path, reader: Reader) -> Source:
    """The file as a source of a version; reads it once more for its digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Source(name=path.name, digest=digest, format=reader.form or "empty", rows=reader.rows)
