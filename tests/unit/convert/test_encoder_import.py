"""Encoders from safetensors and from exported graphs."""

import json
import shutil

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from devtools.convert.encoder.config import read_encoder_config
from devtools.convert.encoder.reference import EncoderReference
from devtools.convert.encoder.version import convert_encoder, is_encoder_directory
from devtools.convert.encoder.weights import EncoderWeights
from devtools.convert.hf.directory import read_tensors
from services.inference.encoder.request import TokenRow
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.errors import CorruptFile, UnsupportedFormat
from tests.support.models.small_encoder import HIDDEN, POSITIONS, VOCABULARY, write_small_encoder

LENGTHS = (1, 3, 17, POSITIONS)


def rows(lengths=LENGTHS, *, types: bool = False) -> list[TokenRow]:
    random = np.random.default_rng(3)
    return [
        TokenRow(random.integers(5, VOCABULARY, length), random.integers(0, 2, length) if types else None)
        for length in lengths
    ]


def served(folder, tmp_path) -> OnnxEncoder:
    manifest = convert_encoder(folder, tmp_path / "version")
    return OnnxEncoder(tmp_path / "version", manifest.the_encoder, threads=1)


def reference(folder, row: TokenRow) -> np.ndarray:
    config = read_encoder_config(folder)
    types = row.type_ids if row.type_ids is not None else np.zeros(len(row), np.int64)
    return EncoderReference(config, EncoderWeights(read_tensors(folder))).output(row.ids, types)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_a_built_graph_computes_what_the_weights_say(tmp_path, activation):
    folder = write_small_encoder(tmp_path / "bert", hidden_act=activation, normalize=False)
    texts = rows(types=True)
    vectors = served(folder, tmp_path).run(texts)
    expected = np.array([reference(folder, row).mean(axis=0) for row in texts])
    np.testing.assert_allclose(vectors, expected, atol=2e-4 if activation == "gelu_new" else 2e-5)


def test_robertas_positions_begin_after_the_padding_id(tmp_path):
    folder = write_small_encoder(tmp_path / "roberta", family="xlm-roberta", normalize=False)
    texts = rows()
    vectors = served(folder, tmp_path).run(texts)
    np.testing.assert_allclose(vectors, [reference(folder, row).mean(axis=0) for row in texts], atol=2e-5)


@pytest.mark.parametrize(("mode", "row"), [("cls_token", 0), ("lasttoken", -1)])
def test_the_pooling_that_the_directory_asks_for_is_used(tmp_path, mode, row):
    folder = write_small_encoder(tmp_path / "bert", pooling=mode, normalize=False)
    texts = rows()
    vectors = served(folder, tmp_path).run(texts)
    np.testing.assert_allclose(vectors, [reference(folder, text)[row] for text in texts], atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifiers_head_is_built(tmp_path, family):
    folder = write_small_encoder(tmp_path / "head", family=family, labels=("no", "maybe", "yes"))
    manifest = convert_encoder(folder, tmp_path / "version")
    assert (manifest.task, manifest.the_encoder.labels) == ("classify", ("no", "maybe", "yes"))
    texts = rows()
    logits = OnnxEncoder(tmp_path / "version", manifest.the_encoder, threads=1).run(texts)
    np.testing.assert_allclose(logits, [reference(folder, row) for row in texts], atol=2e-5)


def test_a_text_has_the_same_numbers_alone_and_in_any_batch(tmp_path):
    encoder = served(write_small_encoder(tmp_path / "bert"), tmp_path)
    texts = rows((2, 9, POSITIONS, 30, 5))
    together = encoder.run(texts)
    alone = np.concatenate([encoder.run([row]) for row in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def exported(tmp_path, **options):
    """A directory as exporters write it, from a graph that was built here."""
    folder = write_small_encoder(tmp_path / "source", **options)
    convert_encoder(folder, tmp_path / "built")
    (folder / "onnx").mkdir()
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(tmp_path / "built" / name, folder / "onnx" / name)
    (folder / "model.safetensors").unlink()
    return folder


def test_an_exported_graph_is_taken_as_it_is(tmp_path):
    folder = exported(tmp_path)
    manifest = convert_encoder(folder, tmp_path / "version")
    assert {file.path for file in manifest.files} == {"model.onnx", "model.onnx.data", "tokenizer.json"}
    assert manifest.lineage.quantization == "as exported"
    texts = rows()
    got = OnnxEncoder(tmp_path / "version", manifest.the_encoder, threads=1).run(texts)
    built = OnnxEncoder(tmp_path / "built", manifest.the_encoder, threads=1).run(texts)
    np.testing.assert_array_equal(got, built)


def change_graph(folder, change) -> None:
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())


def test_an_output_that_is_pooled_already_is_not_pooled_again(tmp_path):
    folder = exported(tmp_path)

    def pool(graph):
        graph.node.append(
            onnx.helper.make_node("Gather", ["last_hidden_state", "zero"], ["sentence_embedding"], axis=1)
        )
        pooled = onnx.helper.make_tensor_value_info("sentence_embedding", 1, ["batch", HIDDEN])
        graph.output.append(pooled)

    change_graph(folder, pool)
    manifest = convert_encoder(folder, tmp_path / "version")
    assert (manifest.the_encoder.output, manifest.the_encoder.pooling) == ("sentence_embedding", "none")
    texts = rows()
    got = OnnxEncoder(tmp_path / "version", manifest.the_encoder, threads=1).run(texts)
    cls = manifest.the_encoder.model_copy(update={"pooling": "cls", "output": "last_hidden_state"})
    np.testing.assert_allclose(got, OnnxEncoder(tmp_path / "version", cls, threads=1).run(texts), atol=1e-6)


def test_a_graph_whose_padding_leaks_is_refused(tmp_path):
    folder = exported(tmp_path)

    def forget_mask(graph):
        for node in graph.node:
            if node.op_type == "MultiHeadAttention":
                node.input.pop()
            elif node.op_type == "Reshape" and node.output[0] == "mask":
                node.input[0] = "ones"
        graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["all"], ["ones"], value=_one()))
        graph.node.insert(0, onnx.helper.make_node("Shape", ["input_ids"], ["all"]))

    change_graph(folder, forget_mask)
    with pytest.raises(UnsupportedFormat, match="attention mask"):
        convert_encoder(folder, tmp_path / "version")
    assert not (tmp_path / "version").exists()


def _one():
    return onnx.helper.make_tensor("one_int64", onnx.TensorProto.INT64, [1], [1])


def test_an_exported_graph_with_other_inputs_operators_or_weights_elsewhere_is_refused(tmp_path):
    folder = exported(tmp_path)
    good = (folder / "onnx" / "model.onnx").read_bytes()

    def rename(graph):
        graph.input[0].name = "pixel_values"

    def elsewhere(graph):
        next(t for t in graph.initializer if t.external_data).external_data[0].value = "../../secret"

    for change, error, match in ((rename, UnsupportedFormat, "pixel_values"), (elsewhere, CorruptFile, "secret")):
        (folder / "onnx" / "model.onnx").write_bytes(good)
        change_graph(folder, change)
        with pytest.raises(error, match=match):
            convert_encoder(folder, tmp_path / "version")
    model = onnx.load_from_string(good)
    model.opset_import.append(onnx.helper.make_opsetid("ai.somebody", 1))
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedFormat, match=r"ai\.somebody"):
        convert_encoder(folder, tmp_path / "version")
    (folder / "onnx" / "model.onnx").write_bytes(good[:100])
    with pytest.raises(CorruptFile):
        convert_encoder(folder, tmp_path / "version")


def change_json(path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_the_directory_says_about_length_and_labels_is_read(tmp_path):
    folder = write_small_encoder(tmp_path / "bert")
    assert read_encoder_config(folder).max_len == POSITIONS
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read_encoder_config(folder).max_len == POSITIONS
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert read_encoder_config(folder).max_len == 20
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert read_encoder_config(folder).max_len == 16
    reranker = read_encoder_config(write_small_encoder(tmp_path / "rank", labels=("relevance",)))
    assert (reranker.task, reranker.sigmoid) == ("classify", True)


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), UnsupportedFormat, "has no tokenizer.json"),
        (lambda f: change_json(f / "1_Pooling" / "config.json", pooling_mode_max=True), UnsupportedFormat, "max"),
        (lambda f: (f / "modules.json").write_text('[{"type": "x.Dense"}]'), UnsupportedFormat, "Dense"),
        (lambda f: (f / "modules.json").write_text('[{"type": "x.Pooling", "path": "../up"}]'), CorruptFile, "up"),
        (lambda f: change_json(f / "config.json", hidden_act="swish"), UnsupportedFormat, "swish"),
        (lambda f: change_json(f / "config.json", model_type="deberta-v2"), UnsupportedFormat, "deberta"),
        (lambda f: change_json(f / "config.json", position_embedding_type="relative"), UnsupportedFormat, "relative"),
        (lambda f: change_json(f / "config.json", intermediate_size=64), CorruptFile, "shape"),
        (lambda f: change_json(f / "config.json", num_hidden_layers=1), UnsupportedFormat, "layer.1"),
        (lambda f: change_json(f / "config.json", vocab_size=8), CorruptFile, "tokens"),
        (lambda f: lose_tensor(f, "encoder.layer.1.output.dense.bias"), CorruptFile, "missing"),
    ],
)  # fmt: skip
def test_a_directory_that_cannot_be_used_is_refused_and_nothing_is_written(tmp_path, damage, error, match):
    folder = write_small_encoder(tmp_path / "bert")
    damage(folder)
    with pytest.raises(error, match=match):
        convert_encoder(folder, tmp_path / "version")
    assert not (tmp_path / "version").exists()


def lose_tensor(folder, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")


def test_encoders_are_told_from_decoders(tmp_path):
    assert is_encoder_directory(write_small_encoder(tmp_path / "bert"))
    assert is_encoder_directory(write_small_encoder(tmp_path / "rank", labels=("relevance",)))
    decoder = tmp_path / "llama"
    decoder.mkdir()
    (decoder / "config.json").write_text('{"model_type": "llama"}')
    assert not is_encoder_directory(decoder)
    assert not is_encoder_directory(tmp_path)


def test_the_tokenizers_own_truncation_and_padding_are_switched_off(tmp_path):
    convert_encoder(write_small_encoder(tmp_path / "bert"), tmp_path / "version")
    definition = json.loads((tmp_path / "version" / "tokenizer.json").read_text())
    assert (definition["truncation"], definition["padding"]) == (None, None)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifier_of_tokens_gives_each_token_its_scores(tmp_path, family):
    folder = write_small_encoder(tmp_path / "tags", family=family, labels=("O", "B", "I"), of_tokens=True)
    texts = rows()
    manifest = convert_encoder(folder, tmp_path / "version")
    assert manifest.the_encoder.of_tokens
    graph = OnnxEncoder(tmp_path / "version", manifest.the_encoder, threads=1)
    for found, row in zip(graph.run(texts), texts, strict=True):
        assert found.shape == (len(row), 3)
        np.testing.assert_allclose(found, reference(folder, row), atol=2e-5)


def test_an_exported_classifier_of_tokens_is_taken(tmp_path):
    built = write_small_encoder(tmp_path / "built", labels=("O", "B", "I"), of_tokens=True)
    manifest = convert_encoder(built, tmp_path / "version")
    exported = tmp_path / "exported"
    exported.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(built / name, exported)
    for file in (tmp_path / "version").glob("model.onnx*"):
        shutil.copy(file, exported)
    again = convert_encoder(exported, tmp_path / "again")
    assert again.the_encoder.of_tokens
    assert again.smoke_test.output == manifest.smoke_test.output
