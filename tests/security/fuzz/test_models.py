"""Files of models from anywhere: converted, or refused by an error of ours, within bounded memory.

LLMOS_FUZZ_EXAMPLES=6000 pytest tests/security/fuzz
"""

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type
from hypothesis import given

from devtools.convert import convert_encoder, convert_gguf, convert_hf
from shared.errors import LlmosError
from tests.security.fuzz.mutations import Change, changes, damaged, fuzzed
from tests.support.models.hf_files import write_hf
from tests.support.models.llama_files import write_llama
from tests.support.models.small_encoder import write_small_encoder

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""numpy warns where weights that were damaged are too large; what is computed from them is compared and refused."""

SPARE = 2 << 30
"""Bytes of address space beyond what the process has: a length that lies must not be allocated."""


@contextmanager
def bounded_memory() -> Iterator[None]:
    """A MemoryError is no error of ours, so it fails the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("gguf") / "whole.gguf", Type.Q4_1).read_bytes()


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    return write_hf(folder / "model", write_llama(folder / "model.gguf", Type.F32))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_encoder(tmp_path_factory.mktemp("onnx") / "source")
    convert_encoder(folder, folder.parent / "built")
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(folder.parent / "built" / name, folder / name)
    (folder / "model.safetensors").unlink()
    return folder


def only_our_errors(convert: object, source: Path, out: Path) -> None:
    """Convert; whatever comes of it, a refusal leaves nothing."""
    assert callable(convert)
    try:
        with bounded_memory():
            convert(source, out)
    except LlmosError as error:
        assert error.message  # noqa: PT017  # any other exception is the failure
        assert not out.exists()
    shutil.rmtree(out, ignore_errors=True)


@fuzzed
@given(done=changes)
def test_gguf(tmp_path: Path, gguf: bytes, done: list[Change]) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(damaged(gguf, done, head=12_000))
    only_our_errors(convert_gguf, source, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@fuzzed
@given(done=changes)
def test_hugging_face_directory(tmp_path: Path, hugging_face: Path, name: str, done: list[Change]) -> None:
    source = tmp_path / "source"
    shutil.copytree(hugging_face, source, dirs_exist_ok=True)
    (source / name).write_bytes(damaged((hugging_face / name).read_bytes(), done, head=4000))
    only_our_errors(convert_hf, source, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
@fuzzed
@given(done=changes)
def test_exported_graph(tmp_path: Path, exported: Path, name: str, done: list[Change]) -> None:
    source = tmp_path / "source"
    shutil.copytree(exported, source, dirs_exist_ok=True)
    (source / name).write_bytes(damaged((exported / name).read_bytes(), done))


def test_whole_files_are_converted(tmp_path: Path, gguf: bytes, hugging_face: Path, exported: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf)
    convert_gguf(tmp_path / "model.gguf", tmp_path / "gguf")
    convert_hf(hugging_face, tmp_path / "hf")
    convert_encoder(exported, tmp_path / "onnx")
    assert json.loads((hugging_face / "config.json").read_text())["model_type"] == "llama"
