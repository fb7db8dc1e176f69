import resource
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.convert import convert_gguf
from devtools.convert.gguf.file import read_gguf
from shared.errors import CorruptFile, InvalidInput, NotFound, StorageFull, UnsupportedFormat
from tests.support.models.llama_files import HEADS, llama_metadata, write_llama


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("gguf") / "whole.gguf", Type.Q4_1).read_bytes()


def refused(tmp_path: Path, content: bytes, error: type[InvalidInput], match: str) -> None:
    source = tmp_path / "damaged.gguf"
    source.write_bytes(content)
    with pytest.raises(error, match=match):
        convert_gguf(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.gguf"]


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file_is_corrupt_and_leaves_nothing(tmp_path: Path, whole: bytes, share: float) -> None:
    refused(tmp_path, whole[: int(len(whole) * share)], CorruptFile, "truncated|empty|not a GGUF")


def test_file_short_of_its_last_byte_is_corrupt(tmp_path: Path, whole: bytes) -> None:
    refused(tmp_path, whole[:-1].rstrip(b"\0"), CorruptFile, "truncated")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_header_bytes_never_crash_the_reader(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, 12_000), min_size=1, max_size=4)):
        damaged[position] = data.draw(st.integers(0, 255))
    source = tmp_path / "flipped.gguf"
    source.write_bytes(damaged)
    try:
        read_gguf(source)
    except InvalidInput as error:
        assert error.message  # noqa: PT017  # any other exception is the failure


def test_other_file_is_named_as_such(tmp_path: Path) -> None:
    refused(tmp_path, b"PK\x03\x04" + bytes(100), CorruptFile, "not a GGUF")


def test_missing_file_and_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        convert_gguf(tmp_path / "model.gguf", tmp_path / "out")
    with pytest.raises(InvalidInput, match="can't be read"):
        convert_gguf(tmp_path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_hostile_counts_are_refused_without_allocating(tmp_path: Path) -> None:
    huge = 1 << 62
    refused(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, huge, 1), CorruptFile, "claims")
    refused(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, 1, huge), CorruptFile, "claims")
    refused(tmp_path, b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, huge), CorruptFile, "truncated")
    array = struct.pack("<IQQQ1sIIQ", 3, 1, 1, 1, b"k", 9, 4, huge)
    refused(tmp_path, b"GGUF" + array, CorruptFile, "truncated")
    strings = struct.pack("<IQQQ1sIIQ", 3, 1, 1, 1, b"k", 9, 8, huge)
    refused(tmp_path, b"GGUF" + strings + bytes(64), CorruptFile, "claims")


@pytest.mark.parametrize(("version", "hint"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian")])
def test_other_versions_and_byte_orders_are_unsupported(tmp_path: Path, version: int, hint: str) -> None:
    refused(tmp_path, b"GGUF" + struct.pack("<IQQ", version, 0, 0), UnsupportedFormat, hint)


def converting(tmp_path: Path, **options: object) -> None:
    source = write_llama(tmp_path / "model.gguf", **options)
    try:
        convert_gguf(source, tmp_path / "out")
    finally:
        assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(("kind", "row_bytes"), [(Type.IQ2_XXS, 66), (Type.TQ1_0, 54), (Type.IQ1_M, 56)])
def test_unsupported_type_names_tensor_type_and_what_is_supported(tmp_path: Path, kind: Type, row_bytes: int) -> None:
    name = "blk.0.ffn_down.weight"
    with pytest.raises(UnsupportedFormat, match=rf"{name}.*{kind.name}.*F32, F16, BF16, Q4_0, Q4_1.*Q4_K_M"):
        converting(tmp_path, extra={name: np.zeros((64, row_bytes), np.uint8)}, types={name: kind})


def test_unknown_tensor_is_refused_rather_than_left_out(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"blk\.0\.attn_q_norm\.weight"):
        converting(tmp_path, extra={"blk.0.attn_q_norm.weight": np.zeros(64, np.float32)})


def test_missing_tensor_and_wrong_shape_are_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"blk\.1\.ffn_gate\.weight"):
        converting(tmp_path, leave_out="blk.1.ffn_gate.weight")
    with pytest.raises(CorruptFile, match="shape"):
        converting(tmp_path, extra={"blk.1.ffn_gate.weight": np.zeros((64, 64), np.float32)})


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"llama.block_count": None}, CorruptFile, "llama.block_count"),
        ({"llama.attention.head_count": 0}, CorruptFile, "head_count"),
        ({"llama.attention.head_count_kv": 3}, CorruptFile, "fit together"),
        ({"llama.block_count": 1_000_000}, CorruptFile, "layers"),
        ({"llama.context_length": "long"}, CorruptFile, "context_length"),
        ({"llama.context_length": 10_000_000}, UnsupportedFormat, "10,000,000"),
        ({"llama.rope.scaling.type": "longrope"}, UnsupportedFormat, "longrope"),
        ({"llama.expert_count": 8}, CorruptFile, "llama.expert_used_count. is missing"),
        ({"llama.rope.dimension_count": HEADS}, UnsupportedFormat, "part of each head"),
        ({"llama.attention.head_count_kv": [2, 1]}, UnsupportedFormat, "layer to layer"),
        ({"tokenizer.ggml.model": "t5"}, UnsupportedFormat, "'t5'"),
        ({"tokenizer.ggml.pre": "kimi-k2"}, UnsupportedFormat, r"'kimi-k2'.*supported: .*llama-bpe.*smaug-bpe"),
        ({"tokenizer.ggml.pre": 7}, CorruptFile, r"tokenizer\.ggml\.pre"),
        ({"tokenizer.chat_template": 7}, CorruptFile, r"tokenizer\.chat_template"),
        ({"tokenizer.chat_template": "{% if %}"}, UnsupportedFormat, "does not compile"),
        ({"general.sampling.temp": "abc"}, CorruptFile, r"general\.sampling\.temp' is 'abc', expected a number"),
        ({"general.sampling.top_p": 1.5}, CorruptFile, r"general\.sampling\.top_p' is 1\.5, which no request"),
        ({"general.sampling.top_k": True}, CorruptFile, r"general\.sampling\.top_k' is 'True'"),
        ({"tokenizer.ggml.tokens": None}, CorruptFile, "tokens"),
        ({"tokenizer.ggml.merges": ["no merge", "x"]}, CorruptFile, "merge"),
        ({"tokenizer.ggml.eos_token_id": 99_999}, CorruptFile, "vocabulary"),
    ],
)
def test_what_the_metadata_lacks_or_asks_too_much_is_said(
    tmp_path: Path, changes: dict[str, object], error: type[InvalidInput], match: str
) -> None:
    with pytest.raises(error, match=match):
        converting(tmp_path, metadata=changes)


@pytest.mark.parametrize("key", llama_metadata())
def test_metadata_of_any_type_is_used_or_refused_but_never_crashes(tmp_path: Path, key: str) -> None:
    for number, value in enumerate([True, 7, 3_000_000_000, 0.5, float("nan"), "text", ["a", "b"], [1, 2]]):
        source = write_llama(tmp_path / f"{number}.gguf", metadata={key: value})
        try:
            convert_gguf(source, tmp_path / f"out-{number}")
        except InvalidInput as error:
            assert error.message  # noqa: PT017  # any other exception is the failure
            assert not (tmp_path / f"out-{number}").exists()


def test_other_architecture_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="'mamba'"):
        converting(tmp_path, architecture="mamba")


def test_full_disk_is_storage_full_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "model.gguf")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageFull, match="no room"):
            convert_gguf(source, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]
