"""Low-rank adapters: they start from the base, merge into it, and travel as PEFT's files."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file

from devtools.train.model.decoder import Decoder
from devtools.train.model.lora import LoraShape, adapted, add_lora, merged_weights, without_adapters
from devtools.train.model.peft import CONFIG, WEIGHTS, read_peft, write_peft
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat
from tests.support.models.family_files import open_directory, open_gguf, write_directory, write_gguf
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights

pytestmark = pytest.mark.train
GOLDEN = Path(__file__).parents[2] / "support/references/golden_adapters"
KINDS = {"lora": "llama2", "dora": "llama2", "rslora": "qwen2"}
"""As `make_golden_adapters` made them."""
IDS_TENSOR = torch.tensor([IDS])


def opened(tmp_path, name="llama2", kind=Type.Q8_0, *, keep_codes=False):
    path = tmp_path / f"{name}.gguf"
    if not path.exists():
        write_gguf(path, CONFIGS[name], random_weights(CONFIGS[name]), kind)
    return Decoder(*open_gguf(path), max_len=64, keep_codes=keep_codes)


def randomise(decoder):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, _, lora in adapted(decoder):
            lora.b.normal_(generator=generator)
            if lora.length is not None:
                lora.length.mul_(torch.rand(lora.length.shape, generator=generator) + 0.5)


def logits(decoder):
    with torch.no_grad():
        return decoder(IDS_TENSOR)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("keep_codes", [False, True])
def test_a_new_adapter_changes_nothing_and_all_of_it_is_trained(tmp_path, dora, keep_codes):
    decoder = opened(tmp_path, keep_codes=keep_codes)
    before = logits(decoder)
    add_lora(decoder, LoraShape(4, 2.0, dora=dora), seed=0)
    torch.testing.assert_close(logits(decoder), before, rtol=0, atol=0)
    decoder(IDS_TENSOR).logsumexp(-1).sum().backward()
    trained = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in decoder.named_parameters() if parameter.grad is not None}
    assert all(".adapter." in name for name in trained)
    assert len(trained) == 3 * 7 * (3 if dora else 2)


def test_a_layer_with_an_adapter_computes_the_formula(tmp_path):
    decoder = opened(tmp_path)
    x = torch.randn(5, 64)
    plain = decoder.blk[0].attn_q(x)
    add_lora(decoder, LoraShape(4, 0.5, ("attn_q",)), seed=0)
    randomise(decoder)
    layer = decoder.blk[0].attn_q
    expected = plain + 0.5 * x @ layer.adapter.a.T @ layer.adapter.b.T
    torch.testing.assert_close(layer(x), expected)


def test_dora_sets_the_length_of_rows_and_keeps_its_gradient_apart(tmp_path):
    decoder = opened(tmp_path)
    add_lora(decoder, LoraShape(4, 0.5, ("attn_q",), dora=True), seed=0)
    randomise(decoder)
    layer = decoder.blk[0].attn_q
    changed = layer.weight + 0.5 * layer.adapter.b @ layer.adapter.a
    expected = changed / changed.norm(dim=1, keepdim=True) * layer.adapter.length[:, None]
    x = torch.randn(5, 64)
    torch.testing.assert_close(layer(x), x @ expected.T)
    torch.testing.assert_close(layer.adapter.merged(layer).norm(dim=1), layer.adapter.length)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("name", ["llama2", "qwen2", "gemma3"])
def test_merged_weights_compute_what_base_and_adapter_compute(tmp_path, name, dora):
    decoder = opened(tmp_path, name)
    add_lora(decoder, LoraShape(4, 0.5, dora=dora), seed=0)
    randomise(decoder)
    expected = logits(decoder)
    plain = opened(tmp_path, name)
    with torch.no_grad():
        for tensor, values in merged_weights(decoder):
            plain.get_parameter(tensor if tensor.endswith(".bias") else f"{tensor}.weight").copy_(values)
    torch.testing.assert_close(logits(plain), expected, rtol=1e-4, atol=1e-4)
    assert (expected - logits(opened(tmp_path, name))).abs().max() > 0.1


def test_without_adapters_the_base_computes(tmp_path):
    decoder = opened(tmp_path)
    before = logits(decoder)
    add_lora(decoder, LoraShape(4, 0.5), seed=0)
    randomise(decoder)
    after = logits(decoder)
    with without_adapters(decoder):
        torch.testing.assert_close(logits(decoder), before, rtol=0, atol=0)
    torch.testing.assert_close(logits(decoder), after, rtol=0, atol=0)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("name", ["llama2", "smollm3", "qwen2", "gemma3"])
def test_an_adapter_survives_its_files(tmp_path, name, dora):
    decoder = opened(tmp_path, name)
    shape = LoraShape(4, 0.5, ("attn_q", "attn_k", "attn_v", "ffn_down"), dora=dora)
    add_lora(decoder, shape, seed=0)
    randomise(decoder)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    write_peft(tmp_path / "one", decoder, shape, base="base")
    again = opened(tmp_path, name, keep_codes=True)
    assert read_peft(tmp_path / "one", again) == shape
    torch.testing.assert_close(logits(again), logits(decoder), rtol=1e-5, atol=1e-5)
    write_peft(tmp_path / "two", again, shape, base="base")
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_rows_of_queries_lie_as_transformers_has_them(tmp_path):
    """llama.cpp's files pair neighbouring dimensions of a Llama's heads; transformers, which PEFT wraps, halves."""
    decoder = opened(tmp_path)
    add_lora(decoder, LoraShape(4, 1.0, ("attn_q",)), seed=0)
    randomise(decoder)
    (tmp_path / "adapter").mkdir()
    write_peft(tmp_path / "adapter", decoder, LoraShape(4, 1.0, ("attn_q",)), base="base")
    stored = load_file(tmp_path / "adapter" / WEIGHTS)[
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    ]
    ours = decoder.blk[0].attn_q.adapter.b
    heads, size = 4, 16
    for head in range(heads):
        for pair in range(size // 2):
            row = head * size + pair
            torch.testing.assert_close(stored[row], ours[head * size + 2 * pair])
            torch.testing.assert_close(stored[row + size // 2], ours[head * size + 2 * pair + 1])


@pytest.fixture
def adapter(tmp_path):
    decoder = opened(tmp_path)
    add_lora(decoder, LoraShape(4, 0.5, ("attn_q",)), seed=0)
    (tmp_path / "adapter").mkdir()
    write_peft(tmp_path / "adapter", decoder, LoraShape(4, 0.5, ("attn_q",)), base="base")
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"peft_type": "IA3"}, UnsupportedFormat, "peft_type is 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedFormat, "'modules_to_save' is not supported"),
        ({"rank_pattern": {"q_proj": 2}}, UnsupportedFormat, "'rank_pattern'"),
        ({"bias": "all"}, UnsupportedFormat, "'bias'"),
        ({"r": 8}, InvalidInput, "this base needs"),
        ({"r": None}, CorruptFile, "'r' and 'lora_alpha'"),
        ({"use_dora": True}, InvalidInput, "'length' of 'blk.0.attn_q' is missing"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, adapter, change, kind, message):
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(kind, match=message):
        read_peft(adapter, opened(tmp_path))


@pytest.mark.parametrize("name", KINDS)
def test_adapters_that_peft_wrote_compute_what_peft_computes(tmp_path, name):
    family = KINDS[name]
    source = open_directory(write_directory(tmp_path / "hf", CONFIGS[family], random_weights(CONFIGS[family])))
    decoder = Decoder(*source, max_len=64)
    before = logits(decoder)
    read_peft(GOLDEN / name, decoder)
    with np.load(GOLDEN / "logits.npz") as golden:
        expected = torch.from_numpy(golden[name])
    torch.testing.assert_close(logits(decoder)[0], expected, rtol=1e-4, atol=1e-4)
    assert (before[0] - expected).abs().max() > 1


def test_rank_stabilised_adapters_have_their_scale(tmp_path, adapter):
    config = json.loads((adapter / CONFIG).read_text()) | {"use_rslora": True, "lora_alpha": 6.0}
    (adapter / CONFIG).write_text(json.dumps(config))
    assert read_peft(adapter, opened(tmp_path)).scale == 3.0


def test_an_adapter_of_another_model_is_refused(tmp_path, adapter):
    with pytest.raises(UnsupportedFormat, match="stands alone"):
        read_peft(adapter, opened(tmp_path, "smollm3"))  # four layers, not three
    with pytest.raises(InvalidInput, match="belongs to another model"):
        read_peft(adapter, opened(tmp_path, "qwen3"))  # heads of another size


def test_strange_and_damaged_files_are_refused(tmp_path, adapter):
    tensors = load_file(adapter / WEIGHTS)
    save_file(tensors | {"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)}, adapter / WEIGHTS)
    with pytest.raises(UnsupportedFormat, match="not a part of a LoRA"):
        read_peft(adapter, opened(tmp_path))
    (adapter / WEIGHTS).write_bytes(b"\x10\x00")
    with pytest.raises(CorruptFile, match="can't be read"):
        read_peft(adapter, opened(tmp_path))
    (adapter / WEIGHTS).unlink()
    with pytest.raises(NotFound, match=r"has no adapter_model\.safetensors"):
        read_peft(adapter, opened(tmp_path))
