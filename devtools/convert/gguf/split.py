"""A GGUF in one file, or in the parts that llama.cpp's `gguf-split` and converter write.

Each part has the keys `split.no` (from 0), `split.count` and `split.tensors.count`, and is called
`NAME-00001-of-00003.gguf`; the first has the model's metadata.
"""

import re
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

from devtools.convert.gguf.file import GgufFile, GgufTensor, read_gguf
from devtools.convert.source_folder import check_inside
from shared.errors import CorruptFile, UnsupportedFormat

_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE | re.DOTALL)
_MAX_PARTS = 4096


def read_parts(path: Path) -> tuple[GgufFile, tuple[Path, ...]]:
    """The whole GGUF of which `path` is the file or any part, and its files in their order.

    Raises:
        CorruptFile: A file is damaged, a part is missing, or parts contradict one another.
        UnsupportedFormat: As `read_gguf`, or a part whose name does not say where the others are.
        NotFound, InvalidInput: As `read_gguf`.
    """
    given = read_gguf(path)
    number, count = _position(given)
    if count == 1:
        return given, (path,)
    paths = _part_paths(path, number, count)
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CorruptFile(
            f"{path.name} is part {number + 1} of a GGUF in {count} parts, and {path.parent} lacks"
            f" {', '.join(missing[:3])}{more}: download all parts into one folder, then import any of them",
            param="source",
        )
    check_inside(path.parent, [part for part in paths if part != path])
    parts = [given if i == number else read_gguf(part) for i, part in enumerate(paths)]
    for i, part in enumerate(parts):
        if _position(part) != (i, count):
            found, of = _position(part)
            raise CorruptFile(
                f"{part.path.name} says that it is part {found + 1} of {of}; download the parts again", param="source"
            )
    first = parts[0].metadata
    return GgufFile(paths[0], first, _joined(parts, first.get("split.tensors.count"))), paths


def split_files(path: Path) -> list[Path]:
    """The files that are there of the GGUF of which `path` is the file or, by its name, a part."""
    name = _NAME.fullmatch(path.name)
    return [path] if name is None else sorted(path.parent.glob(f"{escape(name['stem'])}-*-of-{name['count']}.gguf"))


def _position(gguf: GgufFile) -> tuple[int, int]:
    """Which part it is, from 0, and of how many."""
    count = gguf.metadata.get("split.count", 1)
    number = gguf.metadata.get("split.no", 0)
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (count, number))
    if whole and count in (0, 1):
        return 0, 1
    if not whole or not 0 <= number < count <= _MAX_PARTS:
        raise CorruptFile(
            f"{gguf.path.name} says that it is part {str(number)[:20]} (from 0) of {str(count)[:20]}", param="source"
        )
    return number, count


def _part_paths(path: Path, number: int, count: int) -> tuple[Path, ...]:
    name = _NAME.fullmatch(path.name)
    if name is None or (int(name["number"]), int(name["count"])) != (number + 1, count):
        raise UnsupportedFormat(
            f"{path.name} is part {number + 1} of a GGUF in {count} parts, which are found by their names: call it"
            f" NAME-{number + 1:05}-of-{count:05}.gguf, and the others likewise, in one folder",
            param="source",
        )
    return tuple(path.with_name(f"{name['stem']}-{i:05}-of-{count:05}{name['suffix']}") for i in range(1, count + 1))


def _joined(parts: list[GgufFile], promised: Any) -> Mapping[str, GgufTensor]:
    tensors: dict[str, GgufTensor] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise CorruptFile(
                    f"the tensor {name!r} stands in {part.path.name} and in a part before it", param="source"
                )
            tensors[name] = tensor
    if promised is not None and promised != len(tensors):
        raise CorruptFile(
            f"the parts have {len(tensors):,} tensors together, and {parts[0].path.name} promises {promised!r};"
            " download them again",
            param="source",
        )
    return tensors
