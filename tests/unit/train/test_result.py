"""Results: an adapter as PEFT's files or a model that LLMOS imports, equal bytes for equal runs."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from dataclasses import replace

from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_hf
from devtools.convert.decoder.architecture import LayerAttention
from devtools.convert.decoder.rope import Rope, Yarn, llama3, plain
from devtools.convert.decoder_version import DecoderModel
from devtools.convert.from_hf import read_hf_model
from devtools.convert.hf.architecture import read_config
from devtools.convert.verify.reference import Reference
from devtools.train.base import open_base
from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import adapted, merged_weights
from devtools.train.model.peft import read_peft
from devtools.train.result.folders import folder_digest, whole_folder
from devtools.train.result.hf_config import hf_config
from devtools.train.result.hf_directory import write_hf_directory
from devtools.train.result.hf_rope import rope_parameters
from shared.errors import InvalidInput, StorageFull, UnsupportedFormat
from tests.support.models.family_files import open_directory, open_gguf, write_directory, write_gguf
from tests.support.models.llama_files import write_llama
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights
from tests.support.train.nano_runs import base, nano_run

pytestmark = pytest.mark.train


def written(folder, arch, source, text):
    """The model of an architecture, written as a directory."""
    model = DecoderModel(source="x", digest="y", architecture=arch, weights=source, text=text)
    decoder = Decoder(arch, source, max_len=64)
    folder.mkdir()
    write_hf_directory(folder, model, hf_config(arch, source), merged_weights(decoder))
    return folder


@pytest.fixture
def text(tmp_path):
    return open_base(base(tmp_path)).text


@pytest.mark.parametrize("kind", ["directory", "gguf"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_family_can_be_written_and_computes_the_same(tmp_path, text, name, kind):
    config, weights = CONFIGS[name], random_weights(CONFIGS[name])
    if kind == "directory":
        arch, source = open_directory(write_directory(tmp_path / "hf", config, weights))
    elif name == "qwen2_windows":
        pytest.skip("a GGUF can't say which layers of a Qwen2 have a window")
    else:
        arch, source = open_gguf(write_gguf(tmp_path / "model.gguf", config, weights, Type.Q8_0))
    again, its_source = open_directory(written(tmp_path / "result", arch, source, text))
    expected = Reference(arch, source).logits(IDS)
    logits = Reference(again, its_source).logits(IDS)
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()
    assert not again.rotary_interleaved


ROPES = {
    "plain": Rope("global", plain(500_000.0, 64)),
    "odd base": Rope("global", plain(123_456.789, 128)),
    "linear": Rope("global", plain(10_000.0, 64) / 4),
    "llama 3.1": Rope("global", llama3(plain(500_000.0, 128), factor=8.0, low=1.0, high=4.0, original=8192)),
    "llama 3.2": Rope("global", llama3(plain(500_000.0, 64), factor=32.0, low=1.0, high=4.0, original=8192)),
    "yarn": Rope("global", Yarn(4.0, 32_768).scale(1_000_000.0, 128), Yarn(4.0, 32_768).magnitude),
}


@pytest.mark.parametrize("name", ROPES)
def test_a_rotation_is_solved_for_its_parameters(tmp_path, text, name):
    rope = ROPES[name]
    arch, source = open_directory(
        write_directory(tmp_path / "hf", CONFIGS["llama2"], random_weights(CONFIGS["llama2"]))
    )
    base_frequency, scaling = rope_parameters(rope, 131_072)
    assert (scaling or {}).get("rope_type", "plain") in name.replace(" ", "") + "odd base plain llama3"
    arch = replace(arch, head_dim=2 * len(rope.frequencies), context_length=131_072)
    config = hf_config(replace(arch, attention=(LayerAttention(rope),) * arch.layers), source)
    read = read_config(config).attention[0].rope
    np.testing.assert_allclose(read.frequencies, rope.frequencies, rtol=3e-6)
    assert read.magnitude == pytest.approx(rope.magnitude)
    assert base_frequency > 1


def test_a_rotation_without_parameters_is_refused_before_training(tmp_path):
    strange = plain(10_000.0, 64) * np.linspace(1, 0.3, 32) ** 2
    with pytest.raises(UnsupportedFormat, match="train an adapter"):
        rope_parameters(Rope("global", strange), 2048)


@pytest.mark.parametrize("weights", ["adapter", "full"])
def test_a_trained_model_is_imported_with_its_text(tmp_path, weights):
    run = nano_run(tmp_path, {"weights": weights}, result="model")
    folder = run.folder / "result"
    assert run.finished.kind == "model"
    manifest = convert_hf(folder, tmp_path / "version", quantize="none")
    before, after = open_base(tmp_path / "base.gguf"), read_hf_model(folder)
    assert manifest.metrics["logits_error_float"] < 1e-3
    for part in ("chat_template", "bos_token_id", "add_bos_token", "eos_token_ids"):
        assert getattr(after.text, part) == getattr(before.text, part)
    assert after.text.tokenizer.to_str() == before.text.tokenizer.to_str()
    assert np.abs(Reference(after.architecture, after.weights).logits(IDS)
                  - Reference(before.architecture, before.weights).logits(IDS)).max() > 1e-3  # fmt: skip


@pytest.mark.parametrize("kind", [Type.Q8_0, Type.Q4_1, Type.BF16], ids=lambda kind: kind.name)
def test_codes_that_stay_quantised_and_layers_computed_again_leave_the_same_adapter(tmp_path, kind):
    base_path = write_llama(tmp_path / "quantised.gguf", kind)
    plain_run, saving = (
        nano_run(tmp_path / str(keep), base=base_path, keep_codes=keep, recompute=keep) for keep in (False, True)
    )
    assert saving.losses == pytest.approx(plain_run.losses, rel=1e-6)
    one, other = plain_run.weights(), saving.weights()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


def test_a_merged_model_computes_what_base_and_adapter_compute(tmp_path):
    adapter = nano_run(tmp_path / "adapter")
    model = nano_run(tmp_path / "model", result="model")
    base_model = open_base(tmp_path / "adapter" / "base.gguf")
    decoder = Decoder(base_model.architecture, base_model.weights, max_len=64)
    read_peft(adapter.folder / "result", decoder)
    assert any(lora.b.any() for _, _, lora in adapted(decoder))
    with torch.no_grad():
        expected = decoder(torch.tensor([IDS]))[0].numpy()
    read = read_hf_model(model.folder / "result")
    logits = Reference(read.architecture, read.weights).logits(IDS)
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


def test_training_goes_on_from_an_adapter(tmp_path):
    first = nano_run(tmp_path / "first", {"steps": 10, "optimizer": {"learning_rate": 5e-3}})
    second = nano_run(tmp_path / "second", {"steps": 2}, adapter=first.folder / "result")
    assert second.losses[0] < first.losses[0] - 0.3
    with pytest.raises(InvalidInput, match=r"adapter.rank has no effect on an adapter that exists"):
        nano_run(tmp_path / "third", {"adapter": {"rank": 2}}, adapter=first.folder / "result")


def test_equal_runs_leave_equal_bytes_and_say_where_they_came_from(tmp_path):
    one, other = nano_run(tmp_path / "one"), nano_run(tmp_path / "other")
    assert one.finished.digest == other.finished.digest == folder_digest(one.folder / "result")
    record = json.loads((one.folder / "result" / "training.json").read_text())
    assert record["base"] == "base.gguf"
    assert record["digests"] == one.events[0].digests
    assert set(record["digests"]) == {"recipe", "data", "base"}
    assert record["recipe"]["batch"] == 8
    assert record["step"] == 4
    assert nano_run(tmp_path / "seed", {"seed": 1}).finished.digest != one.finished.digest


def test_kinds_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="leaves a model, not an adapter"):
        nano_run(tmp_path, {"weights": "full"}, result="adapter")
    with pytest.raises(InvalidInput, match="trains all weights"):
        nano_run(tmp_path, {"weights": "full"}, keep_codes=True)


def test_a_folder_is_whole_or_absent(tmp_path, file_size_limit):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "one") as staging:
        (staging / "file").write_text(str(1 / 0))
    with file_size_limit(10), pytest.raises(StorageFull), whole_folder(tmp_path / "one") as staging:
        (staging / "file").write_text("a" * 100)
    assert not list(tmp_path.iterdir())
    with whole_folder(tmp_path / "one") as staging:
        (staging / "file").write_text("a" * 100)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
