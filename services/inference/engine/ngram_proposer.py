"""Proposes the next tokens of one sequence from its earlier tokens: prompt lookup decoding. Pure.

Answers often repeat names, code, quotations and lists of their prompt or of themselves. The proposer looks up the
last two tokens in all earlier ones; the tokens that followed them there are the proposal (Saxena, "Prompt Lookup
Decoding", 2023; "ngram" in vLLM). How often that is right differs from text to text. Each proposer measures it, also
on proposals that no step computed, because the comparison costs nothing.
"""

from services.inference.engine.exponential_mean import ExponentialMean

_LONGEST = 3
"""Matches of this many tokens and more share one measurement."""
_RATES = (0.4, 0.8)
"""Assumed rates of correct tokens after a match of 2 tokens, and of 3 and more. Greedy answers of SmolLM2 about
general knowledge, about documents and in code had 0.28 to 0.37, and 0.9."""
_WEIGHT = 0.15


class NgramProposer:
    """Proposals for one sequence.

    Args:
        tokens: The sequence's, prompt and answer; the list grows, and is read at each `look`.
    """

    __slots__ = ("_at", "_followed", "_length", "_rates", "_read", "_source", "_tokens")

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followed: dict[tuple[int, int], int] = {}
        """Two tokens -> the latest index after them at which a token is known."""
        self._read = 1
        """Index in `tokens` of the second token of the next pair to enter."""
        self._rates = [ExponentialMean(_WEIGHT, rate) for rate in _RATES]
        self._source: int | None = None
        """Index of the tokens that are proposed; None without a proposal."""
        self._length = 0
        """Number of equal tokens before `_source` and before the proposal."""
        self._at = 0
        """Index that the first proposed token would have."""

    def look(self) -> bool:
        """Look for a proposal, and compare the one before with the tokens that came; whether there is one."""
        tokens = self._tokens
        self._learn()
        end = len(tokens)
        for index in range(self._read, end - 1):
            self._followed[tokens[index - 1], tokens[index]] = index + 1
        self._read = max(self._read, end - 1)
        self._source = self._followed.get((tokens[-2], tokens[-1])) if end > 1 else None
        if self._source is None:
            return False
        longer = self._source > 2 and tokens[self._source - 3] == tokens[end - 3]
        self._length, self._at = 2 + longer, end
        return True

    def odds(self, index: int) -> float:
        """Probability that proposed token `index` is right, if those before it are."""
        return self._rate(index).value

    def propose(self, count: int) -> tuple[int, ...]:
        """The next `count` tokens; from the end of the text on, they repeat from `_source`."""
        assert self._source is not None, "there is no proposal"
        known = self._at - self._source
        return tuple([self._tokens[self._source + index % known] for index in range(count)])

    def _rate(self, index: int) -> ExponentialMean:
        return self._rates[min(self._length + index, _LONGEST) - 2]

    def _learn(self) -> None:
        """Measure up to the first wrong token: the proposed tokens after it were based on it."""
        if self._source is None:
            return
        for index in range(len(self._tokens) - self._at):
            right = self._tokens[self._source + index] == self._tokens[self._at + index]
            self._rate(index).add(right)
            if not right:
                break
