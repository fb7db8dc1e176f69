"""The text of one answer: tokens in, text and tool calls that can be sent out."""

from collections.abc import Mapping, Sequence

from services.inference.text.detokenizer import Detokenizer
from services.inference.text.stop import StopMatcher
from services.inference.text.tools.parser import Piece, ToolCallParser
from shared.contracts.gateway import GeneratedToolCall
from shared.text.tokenizer import Tokenizer


class AnswerText:
    """One request's text.

    An answer that was begun on another replica gets the tokens generated so far: the text that they release counts as
    sent, and `push` continues exactly there.

    Stop strings and `stop_ids` apply to the text alone: within a tool call they end nothing.

    Args:
        tokenizer: The version's.
        stops: Stop strings; they are not part of the text.
        ending_ids: Tokens that end the answer: EOS tokens, unless the request ignores them, and its own.
        stop_ids: Tokens that end the answer where they are text, as the stop strings do.
        resumed: Tokens that were generated before.
        include_stop: Whether the stop string that ends the answer, or the ending token's text, is part of the text.
        min_tokens: Stop strings are matched only after this number of tokens.
        control_texts: Texts of control tokens that are part of this answer.
        calls: Finds the tool calls in the text; None: all of it is text.
        exact: Whether a space at the start is part of the text: a grammar matched it, or the answer continues a text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        ending_ids: Sequence[int] = (),
        resumed: Sequence[int] = (),
        *,
        include_stop: bool = False,
        min_tokens: int = 0,
        stop_ids: Sequence[int] = (),
        control_texts: Mapping[int, str] | None = None,
        calls: ToolCallParser | None = None,
        exact: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer, exact=exact)
        self._matcher = StopMatcher(stops, include=include_stop)
        self._ending, self._stop_ids = frozenset(ending_ids), frozenset(stop_ids)
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self._control_texts = control_texts or {}
        self._parser = calls
        self._calls: list[GeneratedToolCall] = []
        self.tokens = 0
        """Tokens that belong to the answer, up to the one that ended it."""
        self.stripped_index: int | None = None
        """Index, in the tokens pushed last, of the token whose leading space was stripped from the text."""
        self.stopped = False
        """Whether a stop string or an ending token ended the answer."""
        self._finished = False
        self.resumed_text = "".join(self.push((token_id,))[0] for token_id in resumed)
        """The text that `resumed` released."""
        self._calls.clear()

    def push(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """Add tokens; returns the text to release, and how many of the tokens belong to the answer.

        That is all of them, unless the answer ended before the last one: then `stopped` is set.
        """
        released: list[str] = []
        taken, self.stripped_index = 0, None
        for token_id in token_ids:
            if self.stopped:
                break
            taken += 1
            self.tokens += 1
            ends = token_id in self._ending or self._ends_text(token_id)
            stripped = self._detokenizer.stripped
            if not ends or self._include_stop:
                released.append(self._push(token_id))
            if self._detokenizer.stripped and not stripped:
                self.stripped_index = taken - 1
            self.stopped = self.stopped or ends
        return "".join(released), taken

    def take_calls(self) -> tuple[GeneratedToolCall, ...]:
        """The calls that were completed since the last time."""
        calls, self._calls = tuple(self._calls), []
        return calls

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._matcher.found

    @property
    def has_calls(self) -> bool:
        """Whether the answer has calls."""
        return self._parser is not None and self._parser.calls > 0

    def finish(self, *, cut: bool = False) -> str:
        """The text that was held back; nothing if a stop string ended the answer. Idempotent.

        Args:
            cut: Whether the answer might have gone on: the beginning of a call is then left out.
        """
        if self._finished:
            return ""
        self._finished = True
        text = self._detokenizer.finish()
        pieces: list[Piece] = [text] if self._parser is None else self._parser.push(text)
        if self._parser is not None:
            pieces += self._parser.finish(cut=cut)
        text, stopped = self._release(pieces)
        return text if stopped else text + self._matcher.finish()

    def _ends_text(self, token_id: int) -> bool:
        if token_id not in self._stop_ids or self.tokens <= self._min_tokens:
            return False
        return self._parser is None or self._parser.is_text(
            self._tokenizer.token_bytes(token_id).decode(errors="replace")
        )

    def _push(self, token_id: int) -> str:
        text = self._detokenizer.push(token_id) + self._control_texts.get(token_id, "")
        text, self.stopped = self._release([text] if self._parser is None else self._parser.push(text))
        self._finished = self.stopped  # bytes after a stop string are not part of the answer
        return text

    def _release(self, pieces: Sequence[Piece]) -> tuple[str, bool]:
        """The text that can be sent, and whether a stop string ended it; calls before that are kept."""
        released = ""
        for piece in pieces:
            if not isinstance(piece, str):
                self._calls.append(piece)
            elif self.tokens <= self._min_tokens:
                released += piece
            else:
                text, stopped = self._matcher.push(piece)
                released += text
                if stopped:
                    return released, True
        return released, False
