"""The process that tries grammars: a worker (`shared.service.worker`).

A grammar comes from a client, and compiling one can take any time and memory: `{"type": "integer", "multipleOf":
1000003}` takes 20 s, and the library's limits do not bound it. So each grammar is compiled here first, where a crash
costs this process alone. The model's vocabulary makes no difference to the trial, so a token for each byte is enough.
"""

import json

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from services.inference.text.grammar.limits import limits
from shared.service.worker import serve

_VOCAB_SIZE = 1 << 20
"""A grammar may name control tokens by id."""


class _ByteTokens:
    """The interface that `TokenizerWrapper` reads, with the 256 bytes and one control token."""

    bos_token_id = None
    eos_token_id = 256
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def main() -> None:
    """Try grammars until the pipe closes."""
    tokenizer = LLTokenizer(TokenizerWrapper(_ByteTokens()), n_vocab=_VOCAB_SIZE)
    serve(lambda request: json.dumps(_error(tokenizer, json.loads(request))).encode())


def _error(tokenizer: LLTokenizer, lark: str) -> str | None:
    """Why the library does not compile the grammar, or None."""
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error() or None


if __name__ == "__main__":
    main()
