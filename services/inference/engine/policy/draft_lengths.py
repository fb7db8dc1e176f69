"""Which rows of a step get a draft: tokens that probably follow, computed together with the row. Pure.

A draft costs no answer a bit. Where the decoder is batch-invariant, a token has the same logits in a span as alone,
and what is chosen after it depends on its logits, the tokens before it and the request's seed only. So each token of
the draft is compared with the one that was chosen before it: those that agree are computed already, the first that
does not is where the next step goes on, and the keys and values behind it are overwritten.

A step reads the weights once, however many rows it has, so one row more costs less than another step. How much less
depends on how many rows there are: a lone stream gains with a guess that is right once in eight times, beside thirty
others one must be right four times in five. So a row gets one more token only if that raises the tokens that the step
is expected to give per second. And since who has no draft waits for those who have one, a step of several streams
gets at most half as long again.
"""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.ngram_proposer import NgramProposer
from services.inference.engine.plan import DecodeRow
from services.inference.engine.policy.block_reservation import BlockReservation
from services.inference.engine.sequence import Sequence

_LONGER = 0.5
"""What drafts may add to a step of several streams, as a part of what it takes without."""


class DraftLengths:
    """Gives rows their drafts.

    Args:
        limits: How long a draft may be, and what a row costs.
        reservation: Says where blocks end: they are kept token by token.
        slots: Of the decoder.
    """

    def __init__(self, limits: EngineLimits, reservation: BlockReservation, *, slots: int) -> None:
        self._longest = limits.draft_tokens
        self._row_cost = limits.row_cost
        self._most_rows = min(limits.step_tokens, slots + limits.draft_tokens)
        self._reservation = reservation

    def admit(self, sequence: Sequence) -> None:
        """Give a new sequence a proposer, if a draft can't change its answer."""
        if self._longest and self._reservation.batch_invariant:
            sequence.proposer = NgramProposer(sequence.tokens)

    def give(self, rows: list[DecodeRow], sequences: list[Sequence]) -> None:
        """Replace those rows of a step that get a draft, each of its sequence; nothing else is computed in it."""
        guesses = [
            (proposer.odds(0), index, sequence, proposer)
            for index, sequence in enumerate(sequences)
            if (proposer := sequence.proposer) and proposer.look()
        ]
        computed, expected = len(rows), float(len(rows))
        most = self._most_rows
        if computed > 1:
            most = min(most, computed + int(_LONGER * (1.0 / self._row_cost + computed)))
        for _, index, sequence, proposer in sorted(guesses, key=lambda each: each[0], reverse=True):
            draft: list[int] = []
            odds = 1.0
            for token in proposer.guess(min(self._room(sequence), most - computed)):
                odds *= proposer.odds(len(draft))
                pays = odds * (1.0 + self._row_cost * computed) > self._row_cost * expected
                if not pays or sequence.request.sampling.ends(token):
                    break
                draft.append(token)
                computed, expected = computed + 1, expected + odds
            if draft:
                rows[index] = rows[index]._replace(draft=tuple(draft))

    def _room(self, sequence: Sequence) -> int:
        """Tokens that may follow a row at once: one token is chosen after the last, and none completes a block."""
        left = sequence.request.sampling.max_tokens - sequence.completion_tokens
        return min(self._longest, left - 1, self._reservation.rows_before_block(sequence.computed + 1))
