"""PEFT and transformers read what a run leaves. Needs both installed, which LLMOS does not."""

import pytest

torch = pytest.importorskip("torch", reason="the extra `train` (torch) is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed: an opt-in test")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: an opt-in test")

from devtools.train.base import open_base
from devtools.train.model.decoder import Decoder
from devtools.train.model.peft import read_peft
from tests.support.train.nano_runs import nano_run

pytestmark = pytest.mark.train
IDS = torch.tensor([[1, 70, 14, 90, 33, 5, 20, 64, 42, 18, 7, 66, 2, 51, 88, 30]])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_and_a_model_mean_the_same_to_transformers(tmp_path, dora):
    """The base is a GGUF, whose heads lie in another order than transformers'."""
    recipe = {"adapter": {"dora": dora}, "optimizer": {"learning_rate": 1e-2}}
    adapter = nano_run(tmp_path / "adapter", recipe).folder / "result"
    merged = nano_run(tmp_path / "merged", recipe, result="model").folder / "result"
    untrained = nano_run(tmp_path / "base", {"optimizer": {"learning_rate": 1e-30}}, result="model").folder / "result"
    model = open_base(tmp_path / "adapter" / "base.gguf")
    decoder = Decoder(model.architecture, model.weights, max_len=64)
    read_peft(adapter, decoder)
    theirs = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(untrained, dtype=torch.float32), adapter
    )
    whole = transformers.AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    with torch.no_grad():
        expected = decoder(IDS)
        before = transformers.AutoModelForCausalLM.from_pretrained(untrained, dtype=torch.float32)(IDS).logits
        assert (expected - before).abs().max() > 0.01
        torch.testing.assert_close(theirs(IDS).logits, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("default")
def test_the_tokenizer_of_a_result_is_the_base_s(tmp_path):
    merged = nano_run(tmp_path, result="model").folder / "result"
    theirs = transformers.AutoTokenizer.from_pretrained(merged)
    text = open_base(tmp_path / "base.gguf").text
    for sentence in ("Hello, world! ünï 你好", "<|im_start|>user\nhi<|im_end|>\n"):
        assert theirs(sentence, add_special_tokens=False)["input_ids"] == text.tokenizer.encode(sentence).ids
    assert theirs.eos_token_id == text.eos_token_ids[0]
    rendered = theirs.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
