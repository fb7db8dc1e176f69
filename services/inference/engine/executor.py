"""Runs one planned step on the decoder: what is computed together, and what a failure costs."""

import uuid
from collections.abc import Callable
from itertools import accumulate, pairwise

import numpy as np
import structlog
from numpy.typing import NDArray

from services.inference.engine.decoder import Decoder, Logits
from services.inference.engine.plan import Chunk, Outcome, Plan, Row, Scores, Store
from services.inference.engine.sampling.logprobs import score_chunk
from services.inference.engine.sampling.params import TokenScore
from services.inference.engine.sampling.sampler import Choice, Draw, choose
from services.inference.engine.sequence import Sequence
from shared.errors import Internal, LlmosError

_log = structlog.get_logger("llmos.engine")
_FAILURES = 3
"""After so many decodes, or prefills, in a row that failed, the decoder is taken for broken."""


class Executor:
    """Runs plans, on one thread.

    Args:
        decoder: Where.
        clock: Seconds, monotonic.
    """

    def __init__(self, decoder: Decoder, clock: Callable[[], float]) -> None:
        self._decoder = decoder
        self._clock = clock
        self._failures = {"decode": 0, "prefill": 0}

    def run(self, plan: Plan) -> Outcome:
        """Run a plan. A part that fails costs its own sequences, not the others'.

        Raises what the decoder raises if it fails all the time.
        """
        for store in plan.stores:
            self._store(store)
        for move in plan.moves:
            self._decoder.move(*move)
        for slot in plan.vacated:
            self._decoder.release(slot)
        for copy in plan.copies:
            self._decoder.fetch(copy.block.index, copy.slot, copy.start)
        if self._decoder.uniform and plan.prefill and len(plan.decode) + len(plan.prefill) > 1:
            return self._run_together(plan) or self._run_apart(plan)
        return self._run_apart(plan)

    def _run_together(self, plan: Plan) -> Outcome | None:
        """Rows and chunks in one run, which reads the weights once; None if it failed."""
        scores, begun = Scores(), self._clock()
        try:
            rows, chunks = [row.span for row in plan.decode], [chunk.span for chunk in plan.prefill]
            logits = self._decoder.compute([*rows, *chunks])
        except Exception as error:  # noqa: BLE001  # what is to blame shows apart
            _log.warning("engine.step_failed", exc_info=error, next="its parts are computed one by one")
            return None
        ends = list(accumulate((span.wanted for span in chunks), initial=len(rows) + plan.draft_tokens))
        decoded = self._decode(plan.decode, scores, logits[: ends[0]])
        prefilled = [
            self._prefill(chunk, scores, logits[begin:end])
            for chunk, (begin, end) in zip(plan.prefill, pairwise(ends), strict=True)
        ]
        spent = self._clock() - begun
        decode_s = spent * ends[0] / plan.token_count
        return Outcome(decoded, prefilled, scores, decode_s=decode_s, prefill_s=spent - decode_s)

    def _run_apart(self, plan: Plan) -> Outcome:
        scores, begun = Scores(), self._clock()
        decoded = self._decode(plan.decode, scores)
        decoded_at = self._clock()
        prefilled = [self._prefill(chunk, scores) for chunk in plan.prefill]
        return Outcome(decoded, prefilled, scores, decode_s=decoded_at - begun, prefill_s=self._clock() - decoded_at)

    def _compute_rows(self, rows: tuple[Row, ...]) -> Logits:
        if self._decoder.uniform:
            return self._decoder.compute([row.span for row in rows])
        return self._decoder.decode([row.token for row in rows], [row.position for row in rows])

    def _decode(
        self, rows: tuple[Row, ...], scores: Scores, logits: Logits | None = None
    ) -> list[tuple[int, ...] | LlmosError] | LlmosError:
        """The tokens that follow rows; `logits` if those are computed."""
        if not rows:
            return []
        try:
            logits = self._compute_rows(rows) if logits is None else logits
            draws = [_draw(row.sequence) if row.sequence and row.chooses else None for row in rows]
            borders = pairwise(accumulate((row.span.wanted for row in rows), initial=0))
            chosen = [
                _choose(row, draw, logits[begin:end])
                for row, draw, (begin, end) in zip(rows, draws, borders, strict=True)
            ]
            for store in [row.store for row in rows if row.store is not None]:
                self._store(store)
        except Exception as error:  # noqa: BLE001  # whatever the model's runtime raises must not end the others
            return self._failed("decode", error, rows=len(rows))
        self._failures["decode"] = 0
        for row, choices in zip(rows, chosen, strict=True):
            if row.sequence is not None and (told := _scores(choices)):
                scores.chosen[row.sequence.id] = told
        return [
            draw if isinstance(draw, LlmosError) else tuple([choice.token for choice in choices])
            for draw, choices in zip(draws, chosen, strict=True)
        ]

    def _prefill(self, chunk: Chunk, scores: Scores, logits: Logits | None = None) -> int | LlmosError | None:
        """The token that follows a chunk, if it chooses one; `logits` if those are computed."""
        sequence = chunk.sequence
        choice = None
        try:
            logits = self._decoder.compute([chunk.span]) if logits is None else logits
            if (top := sequence.request.sampling.prompt_logprobs) is not None and sequence.scores_prompt:
                scores.prompt[sequence.id] = score_chunk(logits, sequence.request.prompt, chunk.start, top)
            if chunk.chooses:
                draw = _draw(sequence)
                if not isinstance(draw, Draw):
                    return draw
                choice = _choose_next(sequence, draw, logits[-1])
            for store in chunk.stores:
                self._store(store)
        except Exception as error:  # noqa: BLE001  # as above
            return self._failed("prefill", error, request_id=sequence.id)
        self._failures["prefill"] = 0
        if choice is None:
            return None
        if told := _scores([choice]):
            scores.chosen[sequence.id] = told
        return choice.token

    def _store(self, store: Store) -> None:
        self._decoder.store(store.slot, store.start, store.block.index)

    def _failed(self, part: str, error: Exception, **where: int | str) -> LlmosError:
        """What to tell the sequences of the part; raises `error` if the decoder fails all the time."""
        error_id = uuid.uuid4().hex[:12]
        _log.error("engine.decoder_failed", error_id=error_id, part=part, exc_info=error, **where)
        self._failures[part] += 1
        if self._failures[part] >= _FAILURES:
            raise error
        return Internal(f"the model failed while computing; error id {error_id}")


def _choose(row: Row, draw: Draw | LlmosError | None, logits: Logits) -> list[Choice]:
    """What is chosen after a row, and after those tokens of its draft that were chosen; nothing without a draw.

    An error ends it: the next step meets it again, and tells it.
    """
    chosen: list[Choice] = []
    while isinstance(draw, Draw) and row.sequence is not None:
        choice = _choose_next(row.sequence, draw, logits[len(chosen)])
        chosen.append(choice)
        if row.draft[len(chosen) - 1 : len(chosen)] != (choice.token,):
            break
        draw = _draw(row.sequence, tuple([each.token for each in chosen]))
    return chosen


def _choose_next(sequence: Sequence, draw: Draw, logits: NDArray[np.float32]) -> Choice:
    """Choose a token, and have the sequence's grammar go on past it."""
    choice = choose(logits, draw)
    if sequence.request.constraint is not None:
        sequence.request.constraint.accept(choice.token)
    return choice


def _scores(choices: list[Choice]) -> tuple[TokenScore, ...]:
    return tuple([choice.score for choice in choices if choice.score is not None])


def _draw(sequence: Sequence, ahead: tuple[int, ...] = ()) -> Draw | LlmosError | None:
    """What the next token of a sequence is chosen by, or why its grammar allows no more; None at the grammar's end.

    `ahead` are tokens that were chosen, but are not in its list yet.
    """
    constraint = sequence.request.constraint
    if constraint is not None and constraint.finished:
        return None
    try:
        mask = None if constraint is None else constraint.mask()
    except LlmosError as error:
        return error
    return Draw(sequence.request.sampling, len(sequence.tokens) + len(ahead), sequence.adjuster, mask, ahead)
