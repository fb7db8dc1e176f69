"""Token ids of a text in which some spellings of control tokens are text.

Control tokens are found as always, by the tokenizer. Where one was not meant, the text between its neighbours among
the added tokens is tokenised again by normaliser, pre-tokeniser and model, which know of no added tokens. All other
ids stay what they were.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer as HfTokenizer

from shared.errors import InvalidInput
from shared.text.user_text import escaped

_SPACE = "▁"
_METASPACE = re.compile(r'"type":"Metaspace".{0,60}"prepend_scheme":"first"')


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered prompt, and where guards stood in it."""

    text: str
    places: tuple[int, ...] = ()
    """In order; a control token around one of them is text."""

    @classmethod
    def of(cls, text: str, guard: str) -> "Rendered":
        """From a text with guards (`shared.text.user_text`)."""
        pieces = text.replace(escaped(guard), guard).split(guard)
        places, end = [], 0
        for piece in pieces[:-1]:
            end += len(piece)
            places.append(end)
        return cls("".join(pieces), tuple(places))


class LiteralEncoder:
    """Encodes with a tokenizer, whose vocabulary is not copied."""

    def __init__(self, tokenizer: HfTokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {token: entry.content for token, entry in tokenizer.get_added_tokens_decoder().items()}
        unknown = getattr(tokenizer.model, "unk_token", None)
        self._unknown = None if unknown is None else tokenizer.token_to_id(unknown)
        pre = tokenizer.pre_tokenizer
        self._spaced = pre is not None and _METASPACE.search(pre.__getstate__().decode()) is not None

    def encode(self, text: Rendered, control: frozenset[int], *, meant: bool) -> list[int]:
        """The ids of `text`.

        Args:
            text: Says which control tokens are text.
            control: The ids of control tokens.
            meant: Whether those without a guard are control tokens.

        Raises:
            InvalidInput: The vocabulary has no other way to write a control token.
        """
        encoding = self._tokenizer.encode(text.text, add_special_tokens=False)
        ids, spans = list(encoding.ids), encoding.offsets
        forged = {
            index
            for index, token in enumerate(ids)
            if token in control and not self._stays(text, token, spans[index], meant=meant)
        }
        if not forged:
            return ids
        borders = [index for index, token in enumerate(ids) if token in self._added and index not in forged]
        found: list[int] = []
        begin = start = 0
        for index in [*borders, len(ids)]:
            end = spans[index][0] if index < len(ids) else len(text.text)
            if forged.isdisjoint(range(begin, index)):
                found += ids[begin:index]
            else:
                found += self._plain(text.text[start:end], control - {self._unknown}, first=start == 0)
            if index < len(ids):
                found.append(ids[index])
                begin, start = index + 1, spans[index][1]
        return found

    def _stays(self, text: Rendered, token: int, span: tuple[int, int], *, meant: bool) -> bool:
        begin, end = span
        exact = text.text[begin:end].strip() == self._added[token]  # a normaliser may make it of other characters
        if token == self._unknown and not exact:
            return True  # a word that the vocabulary does not have
        guarded = bisect(text.places, begin) < bisect(text.places, end - 1)
        return meant and exact and not guarded

    def _plain(self, text: str, control: frozenset[int], *, first: bool) -> list[int]:
        """The ids of a text without added tokens."""
        return [token for piece in self._pieces(text, first=first) for token in self._word(piece, control)]

    def _pieces(self, text: str, *, first: bool) -> Iterator[str]:
        normaliser, pre_tokeniser = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        plain = text if normaliser is None else normaliser.normalize_str(text)
        if pre_tokeniser is None:
            return iter([plain])
        cut: Sequence[str] = [piece for piece, _ in pre_tokeniser.pre_tokenize_str(plain)]
        if self._spaced and not first and cut and not plain.startswith((" ", _SPACE)):
            cut = [cut[0].removeprefix(_SPACE), *cut[1:]]  # it takes each text for the beginning of one
        return filter(None, cut)

    def _word(self, piece: str, control: frozenset[int]) -> list[int]:
        tokens = self._tokenizer.model.tokenize(piece)
        spelled = next((token.value for token in tokens if token.id in control), None)
        if spelled is None:
            return [token.id for token in tokens]
        if spelled == piece and len(piece) == 1:
            raise InvalidInput(
                f"the text has {spelled!r}, which is a control token and which this model cannot write otherwise;"
                " remove it"
            )
        parts = list(spelled) if spelled == piece else re.split(f"({re.escape(spelled)})", piece)
        return [token for part in filter(None, parts) for token in self._word(part, control)]
