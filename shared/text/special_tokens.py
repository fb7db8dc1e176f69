"""The special tokens of a version, by their names in chat templates."""

from shared.contracts.manifest import DecoderSpec
from shared.text.template import SPECIAL_TOKENS
from shared.text.tokenizer import Tokenizer


def special_tokens(tokenizer: Tokenizer, spec: DecoderSpec) -> dict[str, str]:
    """What `spec` names; else the texts of its BOS and main end token."""
    named = {
        "bos_token": _token_text(tokenizer, spec.bos_token_id),
        "eos_token": _token_text(tokenizer, spec.eos_token_ids[0] if spec.eos_token_ids else None),
    }
    return named | {name: text for name, text in spec.special_tokens.items() if name in SPECIAL_TOKENS}


def _token_text(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token(token_id) or ""
