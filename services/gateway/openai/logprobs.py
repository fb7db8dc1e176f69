"""Log probabilities in OpenAI's two shapes: the chat's, and the older one of completions."""

import codecs
from collections.abc import Sequence
from typing import Any

from shared.contracts.gateway import ScoredToken, TokenLogprob


def chat_logprobs(scores: Sequence[TokenLogprob], *, as_ids: bool) -> dict[str, Any]:
    """`choices[].logprobs` of a chat completion.

    `bytes` are what a token adds to the text: joined they are the content's, also where a token is half a character.

    Args:
        scores: Of consecutive tokens.
        as_ids: Whether tokens are named `token_id:1234`.
    """
    content = [
        {**_entry(score, as_ids=as_ids), "top_logprobs": [_entry(each, as_ids=as_ids) for each in score.top]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _entry(token: ScoredToken, *, as_ids: bool) -> dict[str, Any]:
    return {
        "token": f"token_id:{token.token_id}" if as_ids else token.text,
        "logprob": token.logprob,
        "bytes": list(_data(token)),
    }


class TextLogprobs:
    """`choices[].logprobs` of a text completion: parallel lists, in pieces that continue one another.

    Args:
        as_ids: Whether tokens are named `token_id:1234`.
        top: Most probable tokens to list for each; scores may have more.
    """

    def __init__(self, *, as_ids: bool, top: int) -> None:
        self._as_ids = as_ids
        self._most = top
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0
        self._left = b""
        self._at_start = True
        """Whether only spaces of the prompt have been passed."""

    def echo(self, text: str) -> None:
        """The choice's text begins with the prompt."""
        self._left = text.encode()

    def prompt(self, scores: Sequence[TokenLogprob]) -> dict[str, Any]:
        """The prompt's next tokens. Control tokens that its text does not have take no space in it."""
        return self._lists(scores, [self._in_prompt(score) for score in scores])

    def completion(self, scores: Sequence[TokenLogprob]) -> dict[str, Any]:
        """The next generated tokens."""
        if self._left:
            self._advance(self._left)
            self._left = b""
        return self._lists(scores, [self._advance(_data(score)) for score in scores])

    def _in_prompt(self, score: TokenLogprob) -> int:
        data = _data(score) or score.text.encode()
        if self._at_start and data.startswith(b" ") and not self._left.startswith(data):
            data = data[1:]  # SentencePiece writes a space before the first word
        if not self._left.startswith(data):
            return self._offset
        self._at_start = self._at_start and not data.strip(b" ")
        self._left = self._left[len(data) :]
        return self._advance(data)

    def _advance(self, data: bytes) -> int:
        """The offset in characters at which `data` begins."""
        begin = self._offset
        self._offset += len(self._utf8.decode(data))
        return begin

    def _lists(self, scores: Sequence[TokenLogprob], offsets: list[int]) -> dict[str, Any]:
        return {
            "tokens": [self._name(score) for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [self._top(score) for score in scores],
            "text_offset": offsets,
        }

    def _top(self, score: TokenLogprob) -> dict[str, float | None] | None:
        """The most probable tokens and the token itself; None where nothing predicts it."""
        if score.logprob is None:
            return None
        top: dict[str, float | None] = {}
        for each in (*score.top[: self._most], score):
            top.setdefault(self._name(each), each.logprob)
        return top

    def _name(self, token: ScoredToken) -> str:
        """The name of a token. Bytes that are not text are spelt as OpenAI does: names differ where tokens do."""
        if self._as_ids:
            return f"token_id:{token.token_id}"
        if not token.bytes:
            return token.text
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def prompt_logprobs(scores: Sequence[TokenLogprob], top: int) -> list[dict[str, dict[str, Any]] | None]:
    """The field of vLLM: for each token of the prompt, itself and the most probable ones in its place, by token id.

    Args:
        scores: Of all tokens; the first has none.
        top: Most probable tokens to list for each; scores may have more.
    """
    return [None if score.logprob is None else _by_id(score, top) for score in scores]


def _by_id(score: TokenLogprob, top: int) -> dict[str, dict[str, Any]]:
    ranked: list[tuple[int | None, ScoredToken]] = [(score.rank, score), *enumerate(score.top[:top], start=1)]
    return {
        str(token.token_id): {"logprob": token.logprob, "rank": rank, "decoded_token": token.text}
        for rank, token in ranked
    }


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two pieces of a text completion's log probabilities as one."""
    return {name: first[name] + second[name] for name in first}


def _data(token: ScoredToken) -> bytes:
    return token.text.encode() if token.bytes is None else bytes(token.bytes)
