"""The text of one answer: tokens in, text that may be shown out."""

from collections.abc import Mapping, Sequence

from services.inference.text.detokenizer import Detokenizer
from services.inference.text.stop import StopMatcher
from shared.text.tokenizer import Tokenizer


class Answer:
    """One request's text.

    An answer that goes on elsewhere is made with the tokens generated so far: the text that they release counts as
    sent, what they hold back stays held back, and `push` goes on exactly there.

    Args:
        tokenizer: The version's.
        stops: Stop strings; they are not part of the text.
        ending_ids: Tokens that end the answer: EOS tokens, unless the request ignores them, and its own.
        resumed: Tokens that were generated before.
        include_stop: Whether the stop string that ends the answer, or the ending token's text, is part of the text.
        min_tokens: Stop strings are looked for in what comes after so many tokens.
        markers: Control tokens that have a text here.
        exact: Whether a space at the start is part of the text: a grammar matched it, or a text goes on with it.
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
        markers: Mapping[int, str] | None = None,
        exact: bool = False,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, exact=exact)
        self._matcher = StopMatcher(stops, include=include_stop)
        self._ending = frozenset(ending_ids)
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self._markers = markers or {}
        self.tokens = 0
        """Tokens that belong to the answer, up to the one that ended it."""
        self.bare: int | None = None
        """Index, in what was pushed last, of the token whose first space is no part of the text."""
        self.stopped = False
        """Whether a stop string or an ending token ended the answer."""
        self._finished = False
        self.resumed_text = "".join(self.push((token_id,))[0] for token_id in resumed)
        """The text that `resumed` released."""

    def push(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """Take tokens; answers the text to release and how many of them belong to the answer.

        That is all of them, unless the answer ended before: `stopped` says so, and what follows is not part of it.
        """
        released: list[str] = []
        taken, self.bare = 0, None
        for token_id in token_ids:
            if self.stopped:
                break
            taken += 1
            self.tokens += 1
            ends = token_id in self._ending
            stripped = self._detokenizer.stripped
            if not ends or self._include_stop:
                released.append(self._push(token_id))
            if self._detokenizer.stripped and not stripped:
                self.bare = taken - 1
            self.stopped = self.stopped or ends
        return "".join(released), taken

    def _push(self, token_id: int) -> str:
        text = self._detokenizer.push(token_id) + self._markers.get(token_id, "")
        if self.tokens <= self._min_tokens:
            return text
        text, self.stopped = self._matcher.push(text)
        self._finished = self.stopped  # bytes after a stop string are not part of the answer
        return text

    def finish(self) -> str:
        """The text that was held back; nothing if a stop string ended the answer. Idempotent."""
        if self._finished:
            return ""
        self._finished = True
        text = self._detokenizer.finish()
        if self.tokens <= self._min_tokens:
            return text
        text, stopped = self._matcher.push(text)
        return text if stopped else text + self._matcher.finish()
