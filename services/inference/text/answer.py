"""The text of one answer: tokens in, text that may be shown out."""

from collections.abc import Sequence

from services.inference.text.detokenizer import Detokenizer
from services.inference.text.stop import StopMatcher
from services.inference.text.tokenizer import Tokenizer


class Answer:
    """One request's text.

    An answer that goes on elsewhere is made with the tokens generated so far: the text that they release counts as
    sent, what they hold back stays held back, and `push` goes on exactly there.

    Args:
        tokenizer: The version's.
        stops: Stop strings; they are not part of the text.
        eos_token_ids: Tokens that end the answer; empty when the request ignores them.
        resumed: Tokens that were generated before.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stops: Sequence[str] = (),
        eos_token_ids: Sequence[int] = (),
        resumed: Sequence[int] = (),
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._matcher = StopMatcher(stops)
        self._eos = frozenset(eos_token_ids)
        self.tokens = 0
        """Tokens that belong to the answer, up to the one that ended it."""
        self.stopped = False
        """Whether a stop string or an EOS token ended the answer."""
        self._finished = False
        for token_id in resumed:
            self.push((token_id,))

    def push(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """Take tokens; answers the text to release and how many of them belong to the answer.

        That is all of them, unless the answer ended before: `stopped` says so, and what follows is not part of it.
        """
        released: list[str] = []
        taken = 0
        for token_id in token_ids:
            if self.stopped:
                break
            taken += 1
            if token_id in self._eos:
                self.stopped = True
                break
            text, self.stopped = self._matcher.push(self._detokenizer.push(token_id))
            self._finished = self.stopped  # bytes after a stop string are not part of the answer
            released.append(text)
        self.tokens += taken
        return "".join(released), taken

    def finish(self) -> str:
        """The text that was held back; nothing if a stop string ended the answer. Idempotent."""
        if self._finished:
            return ""
        self._finished = True
        text, stopped = self._matcher.push(self._detokenizer.finish())
        return text if stopped else text + self._matcher.finish()
