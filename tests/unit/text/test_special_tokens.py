import pytest

from shared.contracts.manifest import DecoderSpec
from shared.text.special_tokens import special_tokens
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
IDS = DecoderSpec.EXAMPLE.model_copy(update={"bos_token_id": 1, "eos_token_ids": (0, 2)})


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}),  # a version of an older import
        (
            {"bos_token": "", "eos_token": "<|im_end|>", "pad_token": "<pad>"},
            {"bos_token": "", "eos_token": "<|im_end|>", "pad_token": "<pad>"},
        ),
        ({"range": "x"}, {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}),  # no token: a name of Jinja's
    ],
)
def test_templates_get_the_tokens_of_the_version(named: dict[str, str], expected: dict[str, str]) -> None:
    assert special_tokens(TOKENIZER, IDS.model_copy(update={"special_tokens": named})) == expected
