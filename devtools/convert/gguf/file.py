"""Opens and validates a GGUF file: metadata, and tensors as read-only views of the mapped file.

The header is parsed here, with limits, and not by the `gguf` library's reader: that one trusts every count and
length in the file and silently shortens what lies beyond its end. Names and sizes of tensor types are the library's.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat

MAX_METADATA_ENTRIES = 65_536
MAX_TENSORS = 65_536
MAX_NAME_BYTES = 65_535
MAX_DIMENSIONS = 4
MAX_STRING_BYTES = 16 << 20
"""The largest values are chat templates, of some 10 KB."""
_LONG = frozenset(f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores", "merges"))
"""Arrays that grow with the vocabulary."""
_MAX_LONG = 4 << 20
"""Elements of those; the largest vocabularies have some 300,000 tokens and as many merges."""
_MAX_SHORT = 4096
"""Elements of other arrays, one per layer at most. Longer ones have no use here and are stepped over."""
_MAX_STEPS = 16 << 20
"""Elements of all arrays of a file that do not grow with the vocabulary, except those stepped over at once."""
_MAX_ARRAY_DEPTH = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF value type -> `struct` letter."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor as it lies in the file.

    `shape` is row-major (outermost first: the reverse of GGUF's order); `raw` is uint8
    `[*shape[:-1], bytes per row]`, a view of the mapped file.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    raw: np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A validated GGUF: every tensor lies inside the file. Long arrays that LLMOS has no use for are left out."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


class _Header:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data = data
        self.path = path
        self.offset = 0
        self._steps = 0

    def corrupt(self, what: str) -> CorruptFile:
        return CorruptFile(f"{self.path.name}: {what}; download or copy the file again", param="source")

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.offset:
            raise self.corrupt(
                f"the header ends in the middle (byte {self.offset:,} of {len(self.data):,}): the file is truncated"
            )
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def scalar(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.take(struct.calcsize("<" + letter)))[0]

    def string(self) -> str:
        size = self.scalar("Q")
        if MAX_STRING_BYTES < size <= len(self.data) - self.offset:
            raise self.corrupt(f"a text at byte {self.offset:,} claims {size:,} bytes")
        raw = self.take(size)
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self.corrupt(f"the text before byte {self.offset:,} is not UTF-8") from None

    def value(self, kind: int, longest: int, depth: int = 0) -> Any:
        """A value; None for an array of more than `longest` elements, of which none is read."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(longest, depth + 1)
        if kind not in _SCALARS:
            raise self.corrupt(f"metadata value of unknown type {kind} at byte {self.offset:,}")
        return self.scalar(_SCALARS[kind])

    def array(self, longest: int, depth: int) -> list[Any] | None:
        kind, length = self.scalar("I"), self.scalar("Q")
        letter = _SCALARS.get(kind)
        if letter is not None:
            raw = self.take(length * struct.calcsize("<" + letter))
            if length > longest:
                return None
            self._count(length, longest)
            return list(struct.unpack(f"<{length}{letter}", raw))
        smallest = 12 if kind == _ARRAY else 8
        if depth > _MAX_ARRAY_DEPTH or length * smallest > len(self.data) - self.offset:
            raise self.corrupt(f"an array at byte {self.offset:,} claims {length:,} values")
        self._count(length, longest)
        if length <= longest:
            return [self.value(kind, longest, depth) for _ in range(length)]
        for _ in range(length):
            self._step_over(kind, depth)
        return None

    def _count(self, length: int, longest: int) -> None:
        self._steps += 0 if longest == _MAX_LONG else length
        if self._steps > _MAX_STEPS:
            raise self.corrupt(f"its arrays have more than {_MAX_STEPS:,} elements (byte {self.offset:,})")

    def _step_over(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self.take(self.scalar("Q"))
        else:
            self.value(kind, 0, depth)


def read_gguf(path: Path) -> GgufFile:
    """Open `path` and check that everything its header promises is in the file.

    Raises:
        CorruptFile: not a GGUF, truncated, or a header that contradicts itself.
        UnsupportedFormat: a GGUF version or byte order that is not supported.
        NotFound: no such file.
        InvalidInput: a file that can't be read (a folder, no permission).
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise CorruptFile(f"{path.name} is empty", param="source") from None
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", param="source") from None
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}", param="source") from error
    header = _Header(memoryview(mapped), path)
    _check_magic(header)
    tensor_count, entry_count = header.scalar("Q"), header.scalar("Q")
    if tensor_count > MAX_TENSORS or entry_count > MAX_METADATA_ENTRIES:
        raise header.corrupt(f"the header claims {tensor_count:,} tensors and {entry_count:,} metadata entries")
    metadata = _read_metadata(header, entry_count)
    described = [_describe_tensor(header) for _ in range(tensor_count)]
    return GgufFile(path, metadata, _map_tensors(header, metadata, described))


def _check_magic(header: _Header) -> None:
    if len(header.data) < 4 or bytes(header.take(4)) != b"GGUF":
        raise header.corrupt("this is not a GGUF file (it does not begin with 'GGUF')")
    version = header.scalar("I")
    if version in (2, 3):
        return
    if version & 0xFFFF == 0 and version:
        raise UnsupportedFormat(
            f"{header.path.name}: a big-endian GGUF; convert it to little endian with gguf-convert-endian",
            param="source",
        )
    raise UnsupportedFormat(
        f"{header.path.name}: GGUF version {version}; versions 2 and 3 are supported", param="source"
    )


def _read_metadata(header: _Header, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    known: set[str] = set()
    for _ in range(count):
        key = header.string()
        if key in known:
            raise header.corrupt(f"the metadata key {key[:80]!r} stands twice in the file")
        known.add(key)
        value = header.value(header.scalar("I"), _MAX_LONG if key in _LONG else _MAX_SHORT)
        if value is not None:
            metadata[key] = value
        elif key in _LONG:
            raise header.corrupt(f"{key} has more than {_MAX_LONG:,} elements")
    return metadata


@dataclass(frozen=True, slots=True)
class _Description:
    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int


def _describe_tensor(header: _Header) -> _Description:
    name = header.string()
    dimensions = header.scalar("I")
    if not name or len(name) > MAX_NAME_BYTES or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise header.corrupt(f"the tensor {name[:80]!r} has {dimensions} dimensions")
    shape = tuple(reversed([header.scalar("Q") for _ in range(dimensions)]))
    kind = header.scalar("I")
    offset = header.scalar("Q")
    try:
        tensor_type = GGMLQuantizationType(kind)
    except ValueError:
        raise UnsupportedFormat(
            f"{header.path.name}: tensor {name!r} has the unknown type number {kind}", param="source"
        ) from None
    return _Description(name, shape, tensor_type, offset)


def _map_tensors(
    header: _Header, metadata: Mapping[str, Any], described: list[_Description]
) -> dict[str, GgufTensor]:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise header.corrupt(f"general.alignment is {alignment!r}")
    start = -(-header.offset // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for tensor in described:
        block, block_bytes = GGML_QUANT_SIZES[tensor.type]
        if tensor.name in tensors:
            raise header.corrupt(f"the tensor {tensor.name!r} stands twice in the file")
        if tensor.shape[-1] % block or 0 in tensor.shape:
            raise header.corrupt(
                f"the tensor {tensor.name!r} of shape {tensor.shape} can't be of type {tensor.type.name}"
            )
        row_bytes = tensor.shape[-1] // block * block_bytes
        rows = 1
        for length in tensor.shape[:-1]:
            rows *= length
        begin, end = start + tensor.offset, start + tensor.offset + rows * row_bytes
        if end > len(header.data):
            raise header.corrupt(
                f"the tensor {tensor.name!r} ends at byte {end:,}, but the file has {len(header.data):,}:"
                " it is truncated"
            )
        raw = np.frombuffer(header.data[begin:end], np.uint8).reshape(*tensor.shape[:-1], row_bytes)
        tensors[tensor.name] = GgufTensor(tensor.name, tensor.type, tensor.shape, raw)
    return tensors
