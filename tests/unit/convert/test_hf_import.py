import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_hf
from devtools.convert.from_hf import read_hf_model
from devtools.convert.gguf.architecture import read_architecture
from devtools.convert.gguf.file import read_gguf
from devtools.convert.gguf.source import GgufSource
from devtools.convert.verify.reference import Reference
from shared.contracts.manifest import Manifest
from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat
from tests.support.harness.graph_session import GraphSession
from tests.support.models.hf_files import write_hf
from tests.support.models.llama_files import VOCABULARY, write_llama

IDS = [1, 70, 14, 260, 33, 5, 200, 99, 42, 180, 7, 66]


def model(tmp_path: Path, *, tied: bool = False, **options: Any) -> Path:
    source = tmp_path / "model.gguf"
    if not source.exists():
        write_llama(source, Type.F32, tied=tied)
    return write_hf(tmp_path / "model", source, **options)


def expected_logits(tmp_path: Path) -> np.ndarray:
    gguf = read_gguf(tmp_path / "model.gguf")
    return Reference(read_architecture(gguf), GgufSource(gguf)).logits(IDS)


def converted(tmp_path: Path, quantize: str, **options: Any) -> tuple[Path, Manifest]:
    folder = model(tmp_path, **options)
    return tmp_path / "out", convert_hf(folder, tmp_path / "out", quantize=quantize)


@pytest.mark.parametrize(("tied", "shards"), [(True, 1), (False, 3)])
def test_graph_from_safetensors_computes_what_the_same_gguf_does(tmp_path: Path, tied: bool, shards: int) -> None:
    folder, manifest = converted(tmp_path, "none", tied=tied, shards=shards)
    expected = expected_logits(tmp_path)
    logits = GraphSession(folder, manifest.decoder).all_logits(IDS)
    np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())
    assert manifest.lineage.quantization == "F32"


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_half_precision_is_read_without_loss(tmp_path: Path, dtype: str) -> None:
    folder = model(tmp_path, dtype=dtype)
    source = read_hf_model(folder).weights
    exact = read_hf_model(write_hf(tmp_path / "float", tmp_path / "model.gguf")).weights
    bits = {"BF16": 8, "F16": 11}[dtype]
    for name in exact.names():
        np.testing.assert_allclose(source.dequantise(name), exact.dequantise(name), rtol=2.0**-bits, atol=1e-7)
    assert source.type_name("blk.0.attn_q") == dtype


@pytest.mark.parametrize(("quantize", "loss"), [("int8", 0.02), ("int4", 0.25)])
def test_quantised_graph_stays_near_the_original_and_says_how_near(
    tmp_path: Path, quantize: str, loss: float
) -> None:
    folder, manifest = converted(tmp_path, quantize, tied=False)
    expected = expected_logits(tmp_path)
    logits = GraphSession(folder, manifest.decoder).all_logits(IDS)
    assert np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2)) < loss
    assert manifest.lineage.quantization == quantize
    before, after = manifest.metrics["perplexity_original"], manifest.metrics["perplexity"]
    assert after == pytest.approx(before, rel=0.25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf", "out"]


def test_quantised_version_is_small(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    folder = model(tmp_path)
    convert_hf(folder, large, quantize="none")
    convert_hf(folder, small, quantize="int4")
    weights = {path: (path / "model.onnx.data").stat().st_size for path in (large, small)}
    assert weights[small] < weights[large]


def test_same_directory_converts_to_the_same_bytes(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert convert_hf(folder, tmp_path / "a", quantize="int4") == convert_hf(folder, tmp_path / "b", quantize="int4")


def test_progress_goes_through_the_stages_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    convert_hf(model(tmp_path), tmp_path / "out", quantize="int8", progress=lambda *update: seen.append(update))
    order = list(dict(seen))
    assert order == ["read", "measure", "build", "check", "compare", "finish"]
    assert all(dict(seen)[stage] == 1.0 for stage in order)
    assert seen == sorted(seen, key=lambda update: (order.index(update[0]), update[1]))


@pytest.mark.parametrize("stage", ["read", "measure", "build", "check", "compare", "finish"])
def test_import_that_is_stopped_leaves_nothing(tmp_path: Path, stage: str) -> None:
    folder = model(tmp_path)

    def stop(now: str, fraction: float) -> None:
        if now == stage and fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_hf(folder, tmp_path / "out", quantize="int4", progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf"]


def test_auto_takes_int4_where_the_model_stands_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path)
    monkeypatch.setattr("devtools.convert.quantise.version.GOOD", 2.0)
    assert convert_hf(folder, tmp_path / "easy").lineage.quantization == "int4"
    monkeypatch.setattr("devtools.convert.quantise.version.GOOD", 0.5)
    manifest = convert_hf(folder, tmp_path / "hard")
    assert manifest.lineage.quantization == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["easy", "hard", "model", "model.gguf"]


def test_quantising_that_spoils_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devtools.convert.quantise.version.TOLERABLE", 0.5)
    with pytest.raises(UnsupportedFormat, match=r"loses too much.*int4.*--quantize int8"):
        convert_hf(model(tmp_path), tmp_path / "out", quantize="int4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf"]


def test_sampling_defaults_and_every_end_token_are_kept(tmp_path: Path) -> None:
    generation = {"eos_token_id": [2, 0], "temperature": 0.7, "top_p": 0.8, "top_k": 20, "do_sample": True}
    generation |= {"max_new_tokens": 2048, "min_p": None}
    _, manifest = converted(tmp_path, "none", files={"generation_config.json": generation})
    assert manifest.defaults == {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "max_new_tokens": 2048}
    assert manifest.decoder.eos_token_ids == (2, 0)
    assert manifest.decoder.bos_token_id == 1
    assert not manifest.decoder.add_bos_token


def test_chat_template_is_found_wherever_it_is(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ plain }}"}]
    for number, (files, expected) in enumerate(
        [
            ({"tokenizer_config.json": {"chat_template": "{{ one }}"}}, "{{ one }}"),
            ({"tokenizer_config.json": {"chat_template": several}}, "{{ plain }}"),
            ({"tokenizer_config.json": {}, "chat_template.json": {"chat_template": "{{ file }}"}}, "{{ file }}"),
            ({"tokenizer_config.json": None}, None),
        ]
    ):
        source = tmp_path / str(number)
        source.mkdir()
        assert read_hf_model(model(source, files=files)).text.chat_template == expected
    (tmp_path / "0" / "model" / "chat_template.jinja").write_text("{{ jinja }}")
    assert read_hf_model(tmp_path / "0" / "model").text.chat_template == "{{ jinja }}"


def test_special_tokens_are_those_that_a_transformers_tokenizer_has(tmp_path: Path) -> None:
    """The end token of templates is the tokenizer's, whichever token generation_config.json has first."""
    files = {
        "tokenizer_config.json": {
            "bos_token": None,
            "eos_token": {"content": "<|im_end|>", "special": True},
            "pad_token": "<pad>",
        },
        "special_tokens_map.json": {"pad_token": "<other>", "unk_token": {"content": "<unk>"}, "mask_token": None},
        "generation_config.json": {"eos_token_id": [0, 2]},
    }
    text = read_hf_model(model(tmp_path, files=files)).text
    expected = {"bos_token": "", "eos_token": "<|im_end|>", "pad_token": "<pad>", "unk_token": "<unk>"}
    assert {name: token for name, token in text.special_tokens.items() if name != "mask_token"} == expected
    assert text.eos_token_ids == (0, 2)


def test_license_comes_from_the_model_card(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert read_hf_model(folder).license is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\nlicense: other\n")
    assert read_hf_model(folder).license == "apache-2.0"


def test_head_of_a_tied_model_and_old_buffers_are_ignored(tmp_path: Path) -> None:
    extra = {
        "lm_head.weight": np.zeros((VOCABULARY, 64), np.float32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32),
    }
    assert not read_hf_model(model(tmp_path, tied=True, weights=extra)).weights.has("output")


def test_missing_head_of_an_untied_model_is_corrupt(tmp_path: Path) -> None:
    refused(tmp_path, CorruptFile, "output", tied=True, config={"tie_word_embeddings": False})


def refused(tmp_path: Path, error: type[InvalidInput], match: str, *, damage: Any = None, **options: Any) -> None:
    folder = model(tmp_path, **options)
    if damage is not None:
        damage(folder)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error, match=match):
        convert_hf(folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(("left", "lacks"), [(1, "model-00001-of-00003"), (0, "model-00002-of-00003")])
def test_shards_without_their_index_are_named(tmp_path: Path, left: int, lacks: str) -> None:
    """Of a download that stopped early: one shard alone would be taken for the whole model."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors.index.json").unlink()
        for path in sorted(folder.glob("*.safetensors"))[:left] + sorted(folder.glob("*.safetensors"))[left + 1 :]:
            path.unlink()

    refused(tmp_path, CorruptFile, rf"one of 3 shards.* lacks {lacks}\.safetensors and", shards=3, damage=damage)


def test_only_the_index_of_shards_is_missing(tmp_path: Path) -> None:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors.index.json").unlink()

    refused(tmp_path, CorruptFile, r"lacks model\.safetensors\.index\.json", shards=3, damage=damage)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    refused(
        tmp_path,
        CorruptFile,
        r"model-00002-of-00003\.safetensors.*missing",
        shards=3,
        damage=lambda folder: (folder / "model-00002-of-00003.safetensors").unlink(),
    )


def test_truncated_shard_is_named(tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        path = folder / "model-00002-of-00003.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    refused(tmp_path, CorruptFile, r"model-00002-of-00003\.safetensors.*truncated", shards=3, damage=cut)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..\\x.safetensors", "a\0.safetensors", 7])
def test_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: Any) -> None:
    def mislead(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))

    refused(tmp_path, CorruptFile, "beside it", damage=mislead)


def test_index_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    def promise(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"]["model.extra"] = "model-00001-of-00002.safetensors"
        path.write_text(json.dumps(index))

    refused(tmp_path, CorruptFile, "promises the tensor 'model.extra'", shards=2, damage=promise)


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    def pickle(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    refused(tmp_path, UnsupportedFormat, r"pytorch_model\.bin, a pickle.*can run code", damage=pickle)


def test_several_files_without_an_index_are_refused(tmp_path: Path) -> None:
    def rename(folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        for name in ("a.safetensors", "b.safetensors"):
            (folder / name).write_bytes(content)
        (folder / "model.safetensors").unlink()

    refused(tmp_path, UnsupportedFormat, "2 safetensors files and no", damage=rename)


def test_unknown_architecture_names_what_is_supported(tmp_path: Path) -> None:
    refused(tmp_path, UnsupportedFormat, "'mamba'; supported: Llama.*Qwen3.*Gemma 3", config={"model_type": "mamba"})


def test_unknown_and_doubled_tensors_are_refused(tmp_path: Path) -> None:
    strange = {"model.layers.0.mixer.weight": np.zeros(4, np.float32)}
    refused(tmp_path, UnsupportedFormat, r"model\.layers\.0\.mixer\.weight", weights=strange)
    double = {"language_model.model.norm.weight": np.zeros(64, np.float32)}
    second = tmp_path / "second"
    second.mkdir()
    refused(second, CorruptFile, "same part of the model", weights=double)


def test_wrong_type_of_a_tensor_is_refused_by_name(tmp_path: Path) -> None:
    def retype(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))

    refused(tmp_path, UnsupportedFormat, "is of type I32; supported are F32, F16, BF16", damage=retype)


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("config.json", "{", CorruptFile, "config.json is not JSON"),
        ("config.json", "[" * 100_000, CorruptFile, "config.json is not JSON"),
        ("config.json", "[]", CorruptFile, "not a JSON object"),
        ("tokenizer.json", "{}", CorruptFile, "tokenizer.json can't be used"),
        ("tokenizer.json", None, UnsupportedFormat, "no tokenizer.json.*save_pretrained"),
        ("tokenizer_config.json", '{"eos_token": "<none>"}', CorruptFile, "'<none>' is not in the vocabulary"),
        ("tokenizer_config.json", '{"chat_template": 7}', CorruptFile, "template is not a text"),
        ("generation_config.json", '{"eos_token_id": 99999}', CorruptFile, "99999"),
        ("generation_config.json", '{"eos_token_id": ["x"]}', CorruptFile, "'x'"),
        ("generation_config.json", '{"temperature": "hot"}', CorruptFile, "'temperature' is 'hot'"),
        (
            "generation_config.json",
            '{"temperature": "0.7"}',
            CorruptFile,
            "'temperature' is '0.7', expected a number",
        ),
        ("generation_config.json", '{"temperature": 2.5}', CorruptFile, "'temperature' is 2.5, which no request"),
        ("generation_config.json", '{"top_k": 1.5}', CorruptFile, "'top_k' is 1.5, which no request"),
        ("generation_config.json", '{"top_p": NaN}', CorruptFile, "'top_p' is 'nan'"),
        (
            "generation_config.json",
            '{"max_new_tokens": 0}',
            CorruptFile,
            "'max_new_tokens' is 0, expected at least 1",
        ),
        ("generation_config.json", '{"max_new_tokens": [9]}', CorruptFile, "'max_new_tokens' is"),
        ("model.safetensors.index.json", "{}", CorruptFile, "no 'weight_map'"),
    ],
)
def test_damaged_document_is_named(
    tmp_path: Path, name: str, content: str | None, error: type[InvalidInput], match: str
) -> None:
    def damage(folder: Path) -> None:
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content)

    refused(tmp_path, error, match, damage=damage)


def test_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "model.gguf")
    folder = write_hf(tmp_path / "model", source)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    extra = {**tokenizer["added_tokens"][0], "id": VOCABULARY + 5, "content": "<extra>"}
    tokenizer["added_tokens"].append(extra)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CorruptFile, match="different models"):
        convert_hf(folder, tmp_path / "out")


def test_texts_are_never_cut_by_what_a_tokenizer_was_trained_with(tmp_path: Path) -> None:
    folder = model(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert len(read_hf_model(folder).text.tokenizer.encode("hello world, hello").ids) > 3
