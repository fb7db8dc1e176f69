"""What is refused before optimum reads a checkpoint, and what its export says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from devtools.optimum.checkpoint import check_checkpoint
from devtools.optimum.environment import OptimumEnvironment, _stamp, offline_variables
from devtools.optimum.export import convert_seq2seq
from devtools.optimum.facts import read_sampling, read_spec
from llmos.importing import import_model
from shared.errors import CorruptFile, InvalidInput, LlmosError, NotFound, UnsupportedFormat
from tests.support.models.small_seq2seq import FOLDER

TOKENIZER = Tokenizer.from_file(str(FOLDER / "t5" / "tokenizer.json"))


def checkpoint(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", **config}))
    save_file({"shared.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    return folder


def refused(folder: Path, kind: type[LlmosError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        check_checkpoint(folder)
    assert "\n" not in caught.value.message
    for word in words:
        assert word in caught.value.message


def test_an_architecture_that_is_not_exported_is_named(tmp_path: Path) -> None:
    refused(
        checkpoint(tmp_path / "m", model_type="llava"), UnsupportedFormat, "config.json: model_type 'llava'", "t5"
    )
    refused(checkpoint(tmp_path / "m", model_type=["t5"]), UnsupportedFormat, "model_type")


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_code_that_comes_with_a_checkpoint_is_refused(tmp_path: Path, file: str) -> None:
    folder = checkpoint(tmp_path / "m")
    read = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**read, "auto_map": {"AutoModel": "modeling_evil.Evil"}}))
    refused(folder, UnsupportedFormat, f"{file}: auto_map", "never run")


def test_pickles_and_cut_files_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-3])
    refused(folder, CorruptFile, "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    refused(folder, UnsupportedFormat, "pickle")
    refused(tmp_path / "nothing", UnsupportedFormat, "Hugging Face directory")


def test_a_missing_environment_is_named_with_its_command(tmp_path: Path) -> None:
    folder, environment = checkpoint(tmp_path / "m"), OptimumEnvironment(tmp_path / "optimum")
    with pytest.raises(NotFound, match="llmos tool install optimum"):
        convert_seq2seq(folder, tmp_path / "version", environment)
    assert not (tmp_path / "version").exists()
    assert not environment.remove()


def test_a_failed_export_leaves_nothing_and_says_its_last_line(tmp_path: Path) -> None:
    folder, environment = checkpoint(tmp_path / "m"), OptimumEnvironment(tmp_path / "optimum")
    environment.python.parent.mkdir(parents=True)
    environment.python.write_text(
        "#!/bin/sh\necho progress\necho 'first line' >&2\necho 'no such layer' >&2\nexit 1\n"
    )
    environment.python.chmod(0o755)
    (environment.root / "llmos-tool").write_text(_stamp())
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnsupportedFormat, match="optimum can't export this checkpoint: no such layer"):
        convert_seq2seq(folder, tmp_path / "version", environment)
    assert sorted(tmp_path.iterdir()) == before


def test_the_export_gets_no_secrets_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_API_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    variables = offline_variables(tmp_path)
    assert "secret" not in variables.values()
    assert variables["HF_HUB_OFFLINE"] == variables["TRANSFORMERS_OFFLINE"] == "1"
    assert variables["HOME"] == str(tmp_path)


FACTS: dict[str, Any] = {
    "model_type": "bart", "layers": 2, "heads": 2, "head_dim": 8, "hidden_size": 16, "vocab_size": 23, "mel_bins": 0,
    "source_positions": 64, "positions": 64,
}  # fmt: skip


def test_a_generation_configuration_becomes_rules_and_defaults() -> None:
    generation = {
        "decoder_start_token_id": 1, "forced_bos_token_id": 3, "eos_token_id": [1, 2], "bad_words_ids": [[0]],
        "no_repeat_ngram_size": 3, "max_length": 62, "min_length": 12, "top_k": 50, "repetition_penalty": 1.2,
    }  # fmt: skip
    facts = {**FACTS, "generation": generation}
    spec = read_spec(facts, TOKENIZER)
    assert (spec.prefix, spec.eos_token_ids, spec.suppressed_token_ids) == ((1, 3), (1, 2), (0,))
    assert spec.no_repeat_ngram_size == 3
    assert read_sampling(facts, spec) == {
        "repetition_penalty": 1.2, "max_new_tokens": 60, "temperature": 0.0, "min_tokens": 10,
    }  # fmt: skip
    sampled = {**FACTS, "generation": {**generation, "do_sample": True, "temperature": 0.7}}
    assert read_sampling(sampled, spec)["top_k"] == 50
    with pytest.raises(UnsupportedFormat, match="decoder_start_token_id"):
        read_spec({**FACTS, "generation": {}}, TOKENIZER)


@pytest.mark.parametrize(
    ("source", "options", "word"),
    [
        ("hf:org/name", {}, "download the model first"),
        (".", {"quantize": "int4"}, "--quantize"),
        (".", {"cuda": True}, "--cuda"),
    ],
)
def test_options_that_do_not_go_with_optimum(tmp_path: Path, source: str, options: dict[str, Any], word: str) -> None:
    class Models:
        def list(self) -> None: ...

    class Client:
        models = Models()

    with pytest.raises(InvalidInput, match=word):
        import_model(
            Client(),  # type: ignore[arg-type]
            source,
            "m",
            optimum=OptimumEnvironment(tmp_path),
            progress=lambda *_: None,  # type: ignore[arg-type]
            **options,
        )
