"""Guesses the next tokens of one sequence from what came before: prompt lookup decoding. Pure.

An answer often repeats what its prompt or itself said: names, code, quotations, lists. So the last two tokens are
looked up in all before them, and what followed them there last time is the guess (Saxena, "Prompt Lookup Decoding",
2023; "ngram" in vLLM). How often that is right differs from text to text, so each proposer measures it, on
guesses that nobody computed as well: that costs nothing.
"""

_LONGEST = 3
"""Matches as long as this, and longer ones, count as one kind."""
_RATES = (0.4, 0.8)
"""How often a guess after a match of 2 tokens is right, and of 3 and more, before it was measured. Greedy answers of
SmolLM2 about general knowledge, about documents and in code had 0.28 to 0.37, and 0.9."""
_WEIGHT = 0.15
"""Of the newest guess in a mean that forgets: about the last dozen count."""


class NgramProposer:
    """Of one sequence.

    Args:
        tokens: The sequence's, prompt and answer; the list grows, and is read at each `look`.
    """

    __slots__ = ("_at", "_followed", "_length", "_rates", "_read", "_source", "_tokens")

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self._followed: dict[tuple[int, int], int] = {}
        """Two tokens -> the place after them, the last one of those whose token is known."""
        self._read = 1
        """The place in `tokens` of the second of the next two to note."""
        self._rates = list(_RATES)
        self._source: int | None = None
        """The place whose tokens are the guess; None without one."""
        self._length = 0
        """Tokens that agree before `_source` and before the guess."""
        self._at = 0
        """The place of the guess."""

    def look(self) -> bool:
        """Whether there is a guess at what follows now; the guess before is compared with what came."""
        tokens = self._tokens
        self._learn()
        end = len(tokens)
        for place in range(self._read, end - 1):
            self._followed[tokens[place - 1], tokens[place]] = place + 1
        self._read = max(self._read, end - 1)
        self._source = self._followed.get((tokens[-2], tokens[-1])) if end > 1 else None
        if self._source is None:
            return False
        longer = self._source > 2 and tokens[self._source - 3] == tokens[end - 3]
        self._length, self._at = 2 + longer, end
        return True

    def odds(self, index: int) -> float:
        """How likely token `index` of the guess is right, if those before it are."""
        return self._rates[min(self._length + index, _LONGEST) - 2]

    def guess(self, count: int) -> tuple[int, ...]:
        """The next tokens, as far as it can tell; where the text runs out, it goes round."""
        assert self._source is not None, "there is no guess"
        known = self._at - self._source
        return tuple([self._tokens[self._source + index % known] for index in range(count)])

    def _learn(self) -> None:
        """Up to the first token that was not as guessed: behind it the guess meant nothing."""
        if self._source is None:
            return
        for index in range(len(self._tokens) - self._at):
            right = self._tokens[self._source + index] == self._tokens[self._at + index]
            kind = min(self._length + index, _LONGEST) - 2
            self._rates[kind] += _WEIGHT * (right - self._rates[kind])
            if not right:
                break
