"""A replica repeats what its version gave at import."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_encoder, convert_gguf
from services.inference.replica.smoke_test import check_decoder, check_encoder
from services.inference.runtime.onnx_decoder import OnnxDecoder
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.contracts.manifest import Manifest
from shared.contracts.smoke_test import SmokeTest
from shared.errors import CorruptFile
from shared.smoke_test import wrong_answer
from tests.support.harness.one_node import fast_kernels
from tests.support.models.llama_files import write_llama
from tests.support.models.small_encoder import write_small_encoder


def record(manifest: Manifest) -> SmokeTest:
    assert manifest.smoke_test is not None
    return manifest.smoke_test


def converted(tmp_path: Path, kind: Type = Type.Q8_0) -> Manifest:
    return convert_gguf(write_llama(tmp_path / "small.gguf", kind), tmp_path / "version")


def loaded(tmp_path: Path, manifest: Manifest, *, max_len: int = 32, threads: int = 1) -> OnnxDecoder:
    return OnnxDecoder(tmp_path / "version", manifest.the_decoder, slots=2, max_len=max_len, threads=threads)


def scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[: len(data) // 2] = np.random.default_rng(1).bytes(len(data) // 2)
    path.write_bytes(data)


@fast_kernels
@pytest.mark.parametrize("threads", [1, 2])
def test_every_instruction_set_gives_the_answer_of_the_import(
    tmp_path: Path, threads: int, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    manifest = converted(tmp_path)
    assert record(manifest).exact
    assert len(record(manifest).answer) == 16
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    decoder = loaded(tmp_path, manifest, threads=threads)
    assert decoder.batch_invariant
    check_decoder(decoder, manifest.smoke_test)


def test_the_same_file_has_the_same_record(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    assert converted(again).smoke_test == converted(tmp_path).smoke_test


@pytest.mark.parametrize("kind", [Type.F32, Type.Q8_0])
def test_a_decoder_is_tested_as_far_as_its_slots_go(tmp_path: Path, kind: Type) -> None:
    manifest = converted(tmp_path, kind)
    prompt = len(record(manifest).prompt)
    for max_len in (prompt, prompt + 1, prompt + 5, 64):
        check_decoder(loaded(tmp_path, manifest, max_len=max_len), manifest.smoke_test)


def test_a_decoder_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    manifest = converted(tmp_path)
    scramble(tmp_path / "version" / "model.onnx.data")
    with pytest.raises(CorruptFile, match="at import"):
        check_decoder(loaded(tmp_path, manifest), manifest.smoke_test)


def test_a_version_without_a_record_is_not_tested(tmp_path: Path) -> None:
    manifest = converted(tmp_path)
    scramble(tmp_path / "version" / "model.onnx.data")
    check_decoder(loaded(tmp_path, manifest), None)


def test_a_manifest_without_a_record_keeps_its_digest(tmp_path: Path) -> None:
    old = converted(tmp_path).model_copy(update={"smoke_test": None})
    assert b"smoke_test" not in old.canonical()


def test_another_runtime_may_round_differently_but_not_compute_nonsense() -> None:
    logits = np.zeros((2, 8), np.float32)
    logits[[0, 1], [3, 4]] = 5.0
    near_tie = logits.copy()
    near_tie[1, 5] = 5.1
    test = SmokeTest(prompt=(1,), answer=(3, 4), logprob=-0.05, exact=True, runtime="another")
    assert not wrong_answer(test, logits, exact=True)
    assert wrong_answer(test, near_tie, exact=True)
    assert not wrong_answer(test, near_tie, exact=False)
    assert wrong_answer(test, -logits, exact=False)
    assert wrong_answer(test, np.full_like(logits, np.nan), exact=False)
    assert wrong_answer(test, np.full_like(logits, np.nan), exact=True)


@pytest.mark.parametrize("labels", [(), ("no", "yes")])
def test_an_encoder_gives_the_numbers_of_its_import(tmp_path: Path, labels: tuple[str, ...]) -> None:
    folder = write_small_encoder(tmp_path / "encoder", labels=labels)
    manifest = convert_encoder(folder, tmp_path / "version")
    assert record(manifest).output
    spec = manifest.the_encoder
    check_encoder(OnnxEncoder(tmp_path / "version", spec, threads=2), manifest.smoke_test, max_len=64)
    scramble(tmp_path / "version" / "model.onnx.data")
    with pytest.raises(CorruptFile, match="other numbers than at import"):
        check_encoder(OnnxEncoder(tmp_path / "version", spec, threads=1), manifest.smoke_test, max_len=64)
