"""Opens and validates a safetensors file: tensors as read-only views of the mapped file.

Format: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, the data). The header is parsed
here, and not by the `safetensors` library, for two reasons: NumPy has no bfloat16, in which most models come, and a
view of the mapped file lets a matrix be read row by row.
"""

import json
import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devtools.convert.graph.block_matrix import Floats
from devtools.convert.source import Rows
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat

MAX_HEADER_BYTES = 16_000_000
"""The format allows 100 MB, a gigabyte of objects; ten thousand tensors take 1 MB."""
MAX_DIMENSIONS = 8
_METADATA = "__metadata__"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
          "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}  # fmt: skip
"""Every type of whole bytes that the format has."""
READABLE = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class SafeTensor:
    """One tensor as it lies in the file; `raw` is uint8 `[*shape[:-1], bytes per row]`, a view of the mapped file."""

    name: str
    type: str
    shape: tuple[int, ...]
    raw: np.ndarray[Any, np.dtype[np.uint8]]

    def values(self, rows: Rows = slice(None)) -> Floats:
        """`rows` as float32.

        Raises:
            UnsupportedFormat: a type other than `READABLE`.
            CorruptFile: a weight that is not a finite number.
        """
        if self.type not in READABLE:
            raise UnsupportedFormat(
                f"the tensor {self.name!r} is of type {self.type}; supported are {', '.join(READABLE)}."
                " Take the files in bfloat16 or float16",
                param="source",
            )
        raw = np.ascontiguousarray(self.raw[rows])
        if self.type == "BF16":
            values: Floats = (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = raw.view("<f4" if self.type == "F32" else "<f2").astype(np.float32)
        if not np.isfinite(values).all():
            raise CorruptFile(
                f"the tensor {self.name!r} holds values that are not finite numbers; download or copy the file again",
                param="source",
            )
        return values


def read_safetensors(path: Path) -> dict[str, SafeTensor]:
    """The tensors of `path` by name, each of them inside the file.

    Raises:
        CorruptFile: not a safetensors file, truncated, or a header that contradicts itself.
        UnsupportedFormat: a type of tensor that is not known.
        NotFound: no such file.
        InvalidInput: a file that can't be read.
    """
    data = memoryview(_map(path))
    header, start = _header(path, data)
    return {
        name: _tensor(path, name, described, data[start:]) for name, described in header.items() if name != _METADATA
    }


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise CorruptFile(f"{path.name} is empty; download it again", param="source") from None
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", param="source") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}", param="source") from error


def _header(path: Path, data: memoryview) -> tuple[dict[str, Any], int]:
    """The header, and where the data begin."""
    if len(data) < 8:
        raise _corrupt(path, f"it has {len(data)} bytes: it is truncated")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise _corrupt(
            path,
            f"this is not a safetensors file (its header claims {length:,} bytes, and at most {MAX_HEADER_BYTES:,}"
            " are read)",
        )
    if length > len(data) - 8:
        raise _corrupt(path, f"the header claims {length:,} bytes, but the file has {len(data):,}: it is truncated")
    try:
        header = json.loads(bytes(data[8 : 8 + length]), object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _corrupt(path, "its header is not a JSON object")
    return header, 8 + length


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a name stands twice in it"
        raise ValueError(msg)
    return found


def _tensor(path: Path, name: str, described: Any, data: memoryview) -> SafeTensor:
    match described:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise _corrupt(path, f"the header describes the tensor {name[:80]!r} in an unknown way")
    if kind not in _BYTES:
        raise UnsupportedFormat(
            f"{path.name}: the tensor {name!r} has the unknown type {kind[:20]!r}", param="source"
        )
    if len(shape) > MAX_DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
        raise _corrupt(path, f"the tensor {name!r} has the impossible shape {str(shape)[:80]}")
    size = math.prod(shape) * _BYTES[kind]
    if begin < 0 or end - begin != size:
        raise _corrupt(path, f"the tensor {name!r} of shape {shape} can't lie in bytes {begin:,} to {end:,}")
    if end > len(data):
        raise _corrupt(
            path, f"the tensor {name!r} ends at byte {end:,}, but the file has {len(data):,}: it is truncated"
        )
    raw = np.frombuffer(data[begin:end], np.uint8)
    rows = (*shape[:-1], shape[-1] * _BYTES[kind]) if shape else (size,)
    return SafeTensor(name, kind, tuple(shape), raw.reshape(rows))


def _corrupt(path: Path, what: str) -> CorruptFile:
    return CorruptFile(f"{path.name}: {what}; download or copy the file again", param="source")
