"""Files as streams of objects, each with its place: JSON Lines, JSON, CSV, Parquet, text.

Of CSV and Parquet DuckDB reads the rows; a cell that looks like a JSON list or object is read as one.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from devtools.data.defects import Broken
from devtools.data.libraries import load
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat

Found = tuple[int, dict[str, Any] | Broken]
"""A line (of a table or a JSON list: a row, from 1), and its object or what is wrong with it."""

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md", ".markdown")
MAX_LINE = 16 << 20
"""Bytes of a line; a longer one is no row."""
MAX_JSON = 512 << 20
"""Bytes of a JSON file that is one list: it is read as a whole."""
TEXT_CHARACTERS = 8_192
"""A text is cut at the first empty line behind so many characters."""
_BATCH = 512
_LISTS = frozenset({"messages", "conversations", "tools", "choices", "references", "answers", "labels"})
"""Columns whose cells are JSON,"""
_MESSAGES = frozenset(
    {"prompt", "completion", "chosen", "rejected", "input", "preferred_output", "non_preferred_output", "answer"}
)
"""and those whose cells are JSON if they hold messages."""


def suffix_of(path: Path) -> str:
    """The suffix by which a file is read; raises UnsupportedFormat."""
    name = path.name.lower()
    found = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if found is None:
        raise UnsupportedFormat(f"{path}: expected a file of rows: {', '.join(SUFFIXES)}", param="source")
    return found


def check_file(path: Path) -> None:
    """Raise UnsupportedFormat or NotFound unless it is a file of rows."""
    suffix_of(path)
    if not path.is_file():
        raise NotFound(f"{path}: no such file", param="source")


def is_text(path: Path) -> bool:
    """Whether the file is text itself, not rows."""
    return suffix_of(path) in {".txt", ".md", ".markdown"}


def read_objects(path: Path, at: Callable[[float], None] = lambda _: None) -> Iterator[Found]:
    """The objects of a file, in order, in bounded memory.

    Args:
        path: The file.
        at: Called now and then with how much of the file was read, 0 to 1.

    Raises:
        NotFound: No such file.
        UnsupportedFormat: A file of another kind.
        CorruptFile: A table or a JSON list that can't be read at all.
    """
    check_file(path)
    suffix = suffix_of(path)
    size = max(1, path.stat().st_size)
    try:
        match suffix:
            case ".jsonl" | ".ndjson":
                with path.open("rb") as file:
                    yield from _lines(file, lambda: at(file.tell() / size))
            case ".jsonl.gz":
                with path.open("rb") as packed, gzip.open(packed) as file:
                    yield from _lines(file, lambda: at(packed.tell() / size))
            case ".json":
                yield from _list(path)
            case ".csv" | ".tsv" | ".parquet":
                yield from _table(path, suffix)
            case _:
                yield from _text(path)
    except (OSError, EOFError) as error:
        raise CorruptFile(f"{path} can't be read: {error}", param="source") from error


def _lines(file: IO[bytes] | gzip.GzipFile, note: Callable[[], None]) -> Iterator[Found]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number % _BATCH == 0:
            note()
        if len(line) > MAX_LINE:
            raise CorruptFile(f"line {number} is longer than {MAX_LINE >> 20} MiB; is this a file of JSON Lines?")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, _object(line)


def _object(line: bytes) -> dict[str, Any] | Broken:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _why_not(line, error)
    if not isinstance(value, dict):
        return Broken("not_json", "expected a JSON object, found another value")
    return value


def _why_not(line: bytes, error: orjson.JSONDecodeError) -> Broken:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Broken("not_utf8", f"byte {wrong.start + 1} is not UTF-8: {line[wrong.start : wrong.start + 4]!r}")
    cut = "" if line.rstrip().endswith(b"}") else " (the line seems to be cut off)"
    return Broken("not_json", f"not JSON: {error.msg} at column {error.colno}{cut}")


def _list(path: Path) -> Iterator[Found]:
    if path.stat().st_size > MAX_JSON:
        raise InvalidInput(
            f"{path} is one JSON value of more than {MAX_JSON >> 20} MiB; write it as JSON Lines, one object a line",
            param="source",
        )
    try:
        values = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        hint = "; does it hold JSON Lines? Then name it .jsonl" if "after document" in error.msg else ""
        raise CorruptFile(f"{path}: line {error.lineno}: not JSON: {error.msg}{hint}", param="source") from None
    if isinstance(values, dict):  # {"data": [...]}, or a single row
        lists = [
            value for value in values.values() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        values = lists[0] if len(values) == 1 and lists else [values]
    for number, value in enumerate(values, start=1):
        yield number, value if isinstance(value, dict) else Broken("not_json", "expected a JSON object")


def _table(path: Path, suffix: str) -> Iterator[Found]:
    duckdb = load("duckdb")
    with duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}) as base:
        base.execute("SET memory_limit = '256MB'; SET threads = 1; SET preserve_insertion_order = true")
        # Every column of a CSV is text: guessed types would turn "007" into 7.
        reader = "read_parquet(?)" if suffix == ".parquet" else "read_csv(?, all_varchar = true, header = true)"
        try:
            rows = base.execute(f"SELECT * FROM {reader}", [str(path)])  # noqa: S608  # one of two constants
            names = [column[0] for column in rows.description]
            number = 0
            while batch := rows.fetchmany(_BATCH):
                for values in batch:
                    number += 1
                    cells = zip(names, values, strict=True)
                    yield number, {name: _cell(name, value) for name, value in cells if value is not None}
        except duckdb.Error as error:
            message = str(error).splitlines()[0]
            raise CorruptFile(f"{path} can't be read as {suffix.lstrip('.')}: {message}", param="source") from None


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        return _structure(name, value)
    return _filled(value)


def _structure(name: str, text: str) -> Any:
    """JSON in a column that holds a structure; a text that looks like one stays a text."""
    if name not in _LISTS and name not in _MESSAGES:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if name in _MESSAGES:
        first = value[0] if isinstance(value, list) and value else value
        return value if isinstance(first, dict) and first.keys() & {"role", "messages"} else text
    return value


def _filled(value: Any) -> Any:
    """Without the empty fields of a struct: a struct has all of them."""
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, list) else value


def _text(path: Path) -> Iterator[Found]:
    lines: list[str] = []
    first, length = 1, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as wrong:
                yield number, Broken("not_utf8", f"byte {wrong.start + 1} is not UTF-8")
                continue
            if not line.strip() and length >= TEXT_CHARACTERS:
                yield first, {"text": "".join(lines).strip("\r\n"), "group": path.name}
                lines, first, length = [], number + 1, 0
                continue
            lines.append(line)
            length += len(line)
    if "".join(lines).strip():
        yield first, {"text": "".join(lines).strip("\r\n"), "group": path.name}
