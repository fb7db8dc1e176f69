import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_gguf
from devtools.convert.decoder.rope import Rope
from shared.contracts.manifest import Manifest
from shared.errors import UnsupportedFormat
from tests.support.models.llama_files import CONTEXT, VOCABULARY, llama_metadata, write_llama
from tests.support.references.perplexity import perplexity


def test_manifest_names_every_file_with_its_digest_and_size(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "model.gguf", Type.Q4_0)
    manifest = convert_gguf(source, tmp_path / "deep" / "out")
    folder = tmp_path / "deep" / "out"
    assert {file.path for file in manifest.files} == {path.name for path in folder.iterdir()}
    for file in manifest.files:
        content = (folder / file.path).read_bytes()
        assert (file.size, file.digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert manifest.lineage.source_digest == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (manifest.lineage.source, manifest.lineage.quantization) == ("model.gguf", "Q4_0")
    assert (manifest.decoder.vocab_size, manifest.decoder.context_length) == (VOCABULARY, CONTEXT)
    assert manifest.decoder.eos_token_ids == (2, 0)
    assert Manifest.decode(manifest.encode()) == manifest


def test_same_file_converts_to_the_same_bytes(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "model.gguf", Type.Q4_1)
    first = convert_gguf(source, tmp_path / "first")
    second = convert_gguf(source, tmp_path / "second")
    assert first == second


def test_sampling_defaults_and_template_come_from_the_file(tmp_path: Path) -> None:
    recommended = {
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 40,
        "general.sampling.penalty_repeat": 1.25,
    }
    manifest = convert_gguf(write_llama(tmp_path / "a.gguf", metadata=recommended), tmp_path / "out")
    assert manifest.defaults == {"temperature": 0.5, "top_k": 40, "repetition_penalty": 1.25}
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == llama_metadata()["tokenizer.chat_template"]


def test_special_tokens_are_kept_for_templates(tmp_path: Path) -> None:
    named = {"tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 99_999}
    manifest = convert_gguf(write_llama(tmp_path / "a.gguf", metadata=named), tmp_path / "out")
    expected = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert manifest.decoder.special_tokens == expected


def test_base_model_has_no_template_file(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "a.gguf", metadata={"tokenizer.chat_template": None})
    assert "chat_template.jinja" not in {file.path for file in convert_gguf(source, tmp_path / "out").files}


def test_progress_goes_through_the_stages_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    convert_gguf(write_llama(tmp_path / "a.gguf"), tmp_path / "out", progress=lambda *update: seen.append(update))
    assert list(dict(seen)) == ["read", "build", "check", "finish"]
    assert all(dict(seen)[stage] == 1.0 for stage in dict(seen))
    order = list(dict(seen))
    assert seen == sorted(seen, key=lambda update: (order.index(update[0]), update[1]))


def test_converting_over_an_older_version_replaces_its_files(tmp_path: Path) -> None:
    convert_gguf(write_llama(tmp_path / "a.gguf", Type.F32), tmp_path / "out")
    manifest = convert_gguf(write_llama(tmp_path / "b.gguf", Type.Q8_0), tmp_path / "out")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes == {file.path: file.size for file in manifest.files}


def test_graph_that_disagrees_with_the_weights_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Rope.caches
    # A wrong graph: the fault that the check exists for.
    monkeypatch.setattr(Rope, "caches", lambda self, positions: tuple(reversed(right(self, positions))))
    with pytest.raises(UnsupportedFormat, match="does not agree"):
        convert_gguf(write_llama(tmp_path / "model.gguf"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_perplexity_of_a_sure_and_of_an_indifferent_model() -> None:
    ids = [3, 1, 2, 0]
    indifferent = np.zeros((4, 8), np.float32)
    sure = np.full((4, 8), -100, np.float32)
    sure[np.arange(3), ids[1:]] = 100
    assert perplexity(indifferent, ids) == pytest.approx(8)
    assert perplexity(sure, ids) == pytest.approx(1)
