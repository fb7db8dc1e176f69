"""Speculative decoding: how many proposed tokens each decode row computes ahead. Pure.

Drafts change the number of steps, never a token. Where the decoder is batch-invariant, a token has the same logits in
a span as alone, and the choice after it depends only on its logits, the tokens before it and the request's seed. Each
draft token is compared with the token that was chosen before it. Equal ones are already computed. The next step
continues at the first that differs, and overwrites the keys and values after it.

A step reads the weights once, however many rows it has, so one more row costs less than another step. How much less
depends on the number of rows: a lone stream gains from a token that is right once in eight times, beside thirty
others a token must be right four times in five. So a row gets one more token only if that raises the expected tokens
per second of the step. Streams without a draft wait for those with one, so drafts make a step of several streams at
most half as long again.
"""

from services.inference.engine.limits import EngineLimits
from services.inference.engine.ngram_proposer import NgramProposer
from services.inference.engine.plan import DecodeRow
from services.inference.engine.policy.block_reservation import BlockReservation
from services.inference.engine.sequence import Sequence

_LONGER = 0.5
"""Time that drafts may add to a step of several streams, as a part of the step's time without drafts."""


class DraftLengths:
    """Adds drafts to decode rows.

    Args:
        limits: The longest draft, and the cost of a row.
        reservation: Says where blocks end: a row that completes a block has no draft after it.
        slots: Of the decoder.
    """

    def __init__(self, limits: EngineLimits, reservation: BlockReservation, *, slots: int) -> None:
        self._longest = limits.draft_tokens
        self._row_cost = limits.row_cost
        self._most_rows = min(limits.step_tokens, slots + limits.draft_tokens)
        self._reservation = reservation

    def admit(self, sequence: Sequence) -> None:
        """Give a new sequence a proposer, if drafts are on and can't change its answer."""
        if self._longest and self._reservation.batch_invariant:
            sequence.proposer = NgramProposer(sequence.tokens)

    def propose(self, rows: list[DecodeRow], sequences: list[Sequence]) -> None:
        """Replace the rows of a step that get a draft. The step has no chunks.

        Args:
            rows: All rows of the step.
            sequences: That of each row.
        """
        proposals = [
            (proposer.odds(0), index, sequence, proposer)
            for index, sequence in enumerate(sequences)
            if (proposer := sequence.proposer) and proposer.look()
        ]
        computed, expected = len(rows), float(len(rows))
        most = self._most_rows
        if computed > 1:
            most = min(most, computed + int(_LONGER * (1.0 / self._row_cost + computed)))
        for _, index, sequence, proposer in sorted(proposals, key=lambda each: each[0], reverse=True):
            draft: list[int] = []
            odds = 1.0
            for token in proposer.propose(min(self._longest_draft(sequence), most - computed)):
                odds *= proposer.odds(len(draft))
                pays = odds * (1.0 + self._row_cost * computed) > self._row_cost * expected
                if not pays or sequence.request.sampling.ends(token):
                    break
                draft.append(token)
                computed, expected = computed + 1, expected + odds
            if draft:
                rows[index] = rows[index]._replace(draft=tuple(draft))

    def _longest_draft(self, sequence: Sequence) -> int:
        """Tokens that may follow the row: one more is chosen after the last, and none completes a block."""
        left = sequence.request.sampling.max_tokens - sequence.completion_tokens
        return min(self._longest, left - 1, self._reservation.rows_before_block(sequence.computed + 1))
