"""The decoder in PyTorch is the decoder that is served: every family, floats and codes."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")

import numpy as np
from gguf import GGMLQuantizationType as Type

from devtools.convert.verify.reference import Reference
from devtools.train.model.attention import Places
from devtools.train.model.check import TOLERANCE, check_decoder
from devtools.train.model.codes import Codes, Halves
from devtools.train.model.decoder import Decoder
from devtools.train.model.linear import Linear
from shared.errors import Internal
from tests.support.models.family_files import open_directory, open_gguf, write_directory, write_gguf
from tests.support.models.family_references import reference_logits
from tests.support.models.tiny_families import CONFIGS, IDS, random_weights

pytestmark = pytest.mark.train
IN_GGUF = [name for name in CONFIGS if name != "qwen2_windows"]
KINDS = [Type.F32, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q8_0]


def opened(tmp_path, name, kind):
    return open_gguf(write_gguf(tmp_path / "model.gguf", CONFIGS[name], random_weights(CONFIGS[name]), kind))


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_an_independent_forward_pass(tmp_path, name):
    config, weights = CONFIGS[name], random_weights(CONFIGS[name])
    arch, source = open_directory(write_directory(tmp_path / "hf", config, weights))
    with torch.no_grad():
        logits = Decoder(arch, source, max_len=64)(torch.tensor([IDS]))[0].numpy()
    expected = reference_logits(config, weights, IDS)
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", IN_GGUF)
def test_logits_of_quantised_files_equal_the_reference_with_floats_and_with_codes(tmp_path, name, kind):
    arch, source = opened(tmp_path, name, kind)
    for keep_codes in (False, True):
        decoder = Decoder(arch, source, max_len=64, keep_codes=keep_codes)
        assert check_decoder(decoder, arch, source) < 1e-5
        stored = [module for module in decoder.modules() if isinstance(module, Codes | Halves)]
        assert bool(stored) == (keep_codes and kind is not Type.F32)


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.name)
def test_codes_give_the_gradients_of_floats(tmp_path, kind):
    arch, source = opened(tmp_path, "gemma3", kind)
    gradients = []
    for keep_codes in (False, True):
        decoder = Decoder(arch, source, max_len=64, keep_codes=keep_codes)
        embedded = decoder.embed(torch.tensor([IDS])).detach().requires_grad_()
        states = decoder.hidden(embedded, Places(torch.arange(len(IDS))[None]))
        decoder.head(states).logsumexp(-1).sum().backward()
        gradients.append((embedded.grad, decoder.blk[0].attn_norm.weight.grad))
    for with_floats, with_codes in zip(*gradients, strict=True):
        torch.testing.assert_close(with_codes, with_floats, rtol=1e-5, atol=1e-6)


def test_codes_take_the_memory_of_the_file(tmp_path):
    arch, source = opened(tmp_path, "llama2", Type.Q4_0)
    decoder = Decoder(arch, source, max_len=64, keep_codes=True)
    codes = decoder.blk[0].ffn_up.codes
    bits = sum(buffer.numel() * buffer.element_size() * 8 for buffer in codes.buffers()) / np.prod(codes.shape)
    assert bits == 5  # 4 of a code, and a float32 for 32 of them
    assert all(module.weight is None for module in decoder.modules() if isinstance(module, Linear))


def test_layers_computed_again_give_the_same_gradients(tmp_path):
    arch, source = opened(tmp_path, "smollm3", Type.F32)
    gradients = []
    for recompute in (False, True):
        decoder = Decoder(arch, source, max_len=64).train()
        decoder.recompute = recompute
        decoder.set_dropout(0.2)
        torch.manual_seed(3)
        decoder(torch.tensor([IDS])).logsumexp(-1).sum().backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("tensor", ["blk.1.attn_v.weight", "blk.2.ffn_norm.weight", "output_norm.weight"])
def test_a_decoder_that_differs_is_not_trained(tmp_path, tensor):
    arch, source = opened(tmp_path, "qwen3", Type.F32)
    decoder = Decoder(arch, source, max_len=64)
    with torch.no_grad():
        decoder.get_parameter(tensor).mul_(1.01)
    with pytest.raises(Internal, match="nothing was trained"):
        check_decoder(decoder, arch, source)


def test_the_tolerance_is_that_of_the_largest_logit(tmp_path):
    arch, source = opened(tmp_path, "llama2", Type.F32)
    assert TOLERANCE == 1e-4
    largest = np.abs(Reference(arch, source).logits(IDS)).max()
    assert largest > 1  # so the bound is not that of a model that computes nothing
