"""Text to token ids, and a token's bytes."""

import json
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HfTokenizer

from shared.errors import CorruptFile, InvalidInput, UnsupportedFormat
from shared.panics import no_panics
from shared.text.literal import LiteralEncoder, Rendered

_SPACE = "▁"
"""How SentencePiece writes a space."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""How SentencePiece writes a byte."""


class _Decoder(Enum):
    BYTE_LEVEL = "ByteLevel"
    BYTE_FALLBACK = "ByteFallback"
    METASPACE = "Metaspace"


class Tokenizer:
    """A version's `tokenizer.json`.

    `encode` makes ids of the control tokens in a text (`<|im_end|>`), as vLLM and Hugging Face do; it is for texts of
    the model's author. `encode_plain` and `encode_rendered` are for texts of others.

    Args:
        definition: The content of `tokenizer.json`.

    Raises:
        CorruptFile: It is not a tokenizer.
        UnsupportedFormat: Its tokens have no bytes of their own (a decoder that is neither GPT-2's byte level nor
            one of SentencePiece's kinds).
    """

    def __init__(self, definition: str) -> None:
        with no_panics(_unreadable):
            try:
                self._tokenizer = HfTokenizer.from_str(definition)
                decoder = json.loads(definition).get("decoder")
            except Exception as error:  # the library raises bare Exception
                raise _unreadable(str(error)) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._decoder = _decoder_kind(decoder)
        self.strips_first_space = _strips_first_space(decoder)
        """Whether the whole text loses one space at its start (SentencePiece adds one before the first word)."""
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(token for token, entry in added.items() if entry.special)
        self._literal = LiteralEncoder(self._tokenizer)
        self._folds = self._tokenizer.normalizer is not None and any(
            entry.special and entry.normalized for entry in added.values()
        )
        self._added = {token: entry.content.encode() for token, entry in added.items()}
        longest = max(map(len, self._tokenizer.get_vocab(with_added_tokens=True)), default=1)
        # A normaliser may shorten a text: NFC makes one character of at most four.
        self.chars_per_token = longest if self._tokenizer.normalizer is None else 4 * longest
        """No text has more characters than this times its tokens."""
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """The tokenizer at `path`; errors as above."""
        try:
            return cls(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise CorruptFile(f"{path.name} is not UTF-8; import the model again") from error

    @property
    def vocab_size(self) -> int:
        """The number of ids, which start at 0."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, with nothing added at its start or end. Releases the GIL while it works.

        Raises:
            InvalidInput: The tokenizer fails on it.
        """
        with no_panics(tokenizer_failed):
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_plain(self, text: str, control: frozenset[int] | None = None) -> list[int]:
        """The ids of a text in which control tokens, or those of `control`, are text.

        Raises:
            InvalidInput: The vocabulary has no other way to write one.
        """
        control = self._special if control is None else control
        ids = self.encode(text)
        if control.isdisjoint(ids):
            return ids
        with no_panics(tokenizer_failed):
            return self._literal.encode(Rendered(text), control, meant=False)

    def encode_rendered(self, text: Rendered, control: frozenset[int]) -> list[int]:
        """The ids of a rendered prompt, in which those of `control` are text where guards were; raises as above."""
        if not text.places and not self._folds:
            return self.encode(text.text)
        with no_panics(tokenizer_failed):
            return self._literal.encode(text, control, meant=True)

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids of control tokens."""
        return self._special

    def added_in(self, text: str) -> frozenset[int]:
        """The ids of added tokens, control tokens or not, that stand in `text`."""
        return frozenset(token for token, content in self._added.items() if content and content.decode() in text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The whole text at once, without control tokens, as the library decodes it."""
        with no_panics(tokenizer_failed):
            return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def token(self, token_id: int) -> str | None:
        """The token in the vocabulary's spelling, or None for an unknown id."""
        return self._tokenizer.id_to_token(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to the UTF-8 text; empty for control tokens and unknown ids."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._compute_bytes(token_id)
        return known

    def is_control(self, token_id: int) -> bool:
        """Whether it is a control token: one without text."""
        return token_id in self._special

    def control_id(self, text: str) -> int | None:
        """The id of the control token with this spelling, or None."""
        token_id = self._tokenizer.token_to_id(text)
        return token_id if token_id in self._special else None

    def _compute_bytes(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special:
            return b""
        if self._decoder is _Decoder.BYTE_LEVEL:
            # As in the library's decoder: a token outside the byte alphabet is its own text.
            mapped = [_BYTE_OF.get(char) for char in token]
            return token.encode() if None in mapped else bytes(byte for byte in mapped if byte is not None)
        if token_id in self._added:
            return self._added[token_id].replace(_SPACE.encode(), b" ")
        if self._decoder is _Decoder.BYTE_FALLBACK and (byte := _BYTE_TOKEN.fullmatch(token)) is not None:
            return bytes([int(byte[1], 16)])
        return token.replace(_SPACE, " ").encode()


def tokenizer_failed(reason: str) -> InvalidInput:
    """The error for a text or ids on which a tokenizer panics."""
    return InvalidInput(
        f"the model's tokenizer fails on this text ({reason}); shorten long runs of one character in it"
    )


def _unreadable(reason: str) -> CorruptFile:
    return CorruptFile(f"tokenizer.json can't be read: {reason}; import the model again")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte, inverted."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder.get("type") == "Sequence":
        return [step for inner in decoder["decoders"] for step in _steps(inner)]
    return [decoder]


def _decoder_kind(decoder: dict[str, Any] | None) -> _Decoder:
    kinds = [step.get("type") for step in _steps(decoder)]
    for kind in _Decoder:
        if kind.value in kinds:
            return kind
    raise UnsupportedFormat(
        f"tokenizer.json has the decoder {kinds or 'none'}; ByteLevel (GPT-2 kind), ByteFallback and Metaspace"
        " (SentencePiece kinds) are supported"
    )


def _strips_first_space(decoder: dict[str, Any] | None) -> bool:
    return any(
        (step.get("type") == "Strip" and step.get("content") == " " and step.get("start", 0) > 0)
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in _steps(decoder)
    )
