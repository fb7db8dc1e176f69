import hashlib
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from devtools.convert import convert_gguf
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.split import read_parts
from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat
from tests.support.models.llama_files import llama_weights, write_llama

PARTS = 3


def split(folder: Path) -> list[Path]:
    """The model of `write_llama` as the `gguf` library splits it: all metadata in the first part."""
    folder.mkdir(parents=True, exist_ok=True)
    write_llama(folder / "model.gguf", split_tensors=-(-len(llama_weights()) // PARTS))
    paths = sorted(folder.glob("model-*.gguf"))
    assert [path.name for path in paths] == [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    return paths


@pytest.mark.parametrize("given", range(PARTS))
def test_any_part_stands_for_the_whole_model(tmp_path: Path, given: int) -> None:
    whole = convert_gguf(write_llama(tmp_path / "whole.gguf"), tmp_path / "out")
    paths = split(tmp_path / "parts")
    manifest = convert_gguf(paths[given], tmp_path / "out-of-parts")
    assert manifest.files == whole.files
    assert manifest.decoder == whole.decoder
    listed = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    assert manifest.lineage.source == "model-00001-of-00003.gguf"
    assert manifest.lineage.source_digest == hashlib.sha256(listed.encode()).hexdigest()


@pytest.mark.parametrize(("missing", "given"), [(0, 1), (1, 2), (2, 0)])
def test_a_missing_part_is_named(tmp_path: Path, missing: int, given: int) -> None:
    paths = split(tmp_path)
    paths[missing].unlink()
    expected = rf"{paths[given].name} is part {given + 1} of a GGUF in 3 parts, and .* lacks {paths[missing].name}:"
    with pytest.raises(CorruptFile, match=expected):
        convert_gguf(paths[given], tmp_path / "out")


def test_a_part_with_another_name_is_said_to_be_one(tmp_path: Path) -> None:
    renamed = split(tmp_path)[1].rename(tmp_path / "second.gguf")
    with pytest.raises(UnsupportedFormat, match=r"second\.gguf is part 2 .* NAME-00002-of-00003\.gguf"):
        read_parts(renamed)


def swap(folder: Path) -> None:
    _, second, third = split(folder)
    second.rename(folder / "other")
    third.rename(second)
    (folder / "other").rename(third)


def double(folder: Path) -> None:
    first, _, third = split(folder)
    writer = gguf.GGUFWriter(third, "llama")
    writer.add_uint16("split.no", 2)
    writer.add_uint16("split.count", PARTS)
    writer.add_tensor(next(iter(read_gguf(first).tensors)), np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def promise_more(folder: Path) -> None:
    first = split(folder)[0]
    key, tensors = b"split.tensors.count" + (5).to_bytes(4, "little"), len(llama_weights())
    content = first.read_bytes()
    assert content.count(key + tensors.to_bytes(4, "little")) == 1
    first.write_bytes(content.replace(key + tensors.to_bytes(4, "little"), key + (99).to_bytes(4, "little")))


def cut(folder: Path) -> None:
    third = split(folder)[2]
    third.write_bytes(third.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (promise_more, "promises 99"),
        (swap, "says that it is part 3 of 3"),
        (double, "stands in model-00003-of-00003.gguf and in a part before it"),
        (cut, "model-00003-of-00003.gguf: .*truncated"),
    ],
    ids=["tensors", "swapped", "double", "cut"],
)
def test_parts_that_contradict_one_another_are_corrupt(
    tmp_path: Path, damage: Callable[[Path], object], match: str
) -> None:
    damage(tmp_path)
    with pytest.raises(CorruptFile, match=match):
        convert_gguf(tmp_path / "model-00001-of-00003.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "value"), [("split.count", "three"), ("split.no", 3), ("split.count", 60_000)])
def test_impossible_positions_are_refused(tmp_path: Path, key: str, value: int | str) -> None:
    metadata = {"split.no": 0, "split.count": 2} | {key: value}
    source = write_llama(tmp_path / "model-00001-of-00002.gguf", metadata=metadata)
    with pytest.raises(InvalidInput, match="part"):
        read_parts(source)


def test_a_model_in_one_part_is_a_model(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model-00001-of-00001.gguf", metadata={"split.no": 0, "split.count": 1})
    assert convert_gguf(path, tmp_path / "out").lineage.source == path.name
