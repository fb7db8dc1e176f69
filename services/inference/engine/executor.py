"""Runs one planned step on the decoder, and chooses the tokens. A failure ends the sequences of its part only."""

import uuid
from collections.abc import Callable, KeysView, Sequence
from itertools import accumulate, pairwise

import structlog

from services.inference.engine.decoder import Decoder, Logits, Source, SourceDecoder
from services.inference.engine.plan import Chunk, DecodeRow, Outcome, Plan, Store
from services.inference.engine.request import SequenceRequest
from services.inference.engine.sampling.sampler import Choice
from services.inference.engine.sampling.state import SamplerState
from shared.errors import Internal, LlmosError

_log = structlog.get_logger("llmos.engine")
_FAILURES = 3
"""After this many decodes, or prefills, in a row that failed, the decoder is considered broken."""


class Executor:
    """Runs plans, on one thread.

    It chooses tokens by the sampler states that it owns: one for each request, from `add` to `remove`. They advance
    with each chosen token, so a request's tokens are chosen once each, in their order.

    Args:
        decoder: Computes the logits.
        clock: Seconds, monotonic.
    """

    def __init__(self, decoder: Decoder, clock: Callable[[], float]) -> None:
        self._decoder = decoder
        self._clock = clock
        self._states: dict[str, SamplerState] = {}
        self._sources: dict[str, Source] = {}
        """Of requests that have not begun."""
        self._failures = {"decode": 0, "prefill": 0}

    @property
    def requests(self) -> KeysView[str]:
        """Ids of the requests that were added and not removed."""
        return self._states.keys()

    def add(self, request: SequenceRequest) -> None:
        """A request was admitted: plans may name it from now on. May be called during `run`."""
        state = SamplerState(request.sampling, request.prompt, request.resumed, request.constraint)
        self._states[request.request_id] = state
        if request.source is not None:
            self._sources[request.request_id] = request.source

    def remove(self, request_id: str) -> None:
        """A request ended: no plan names it any more."""
        del self._states[request_id]
        self._sources.pop(request_id, None)

    def run(self, plan: Plan) -> Outcome:
        """Run a plan. If a part fails, only its own sequences end with the error.

        Raises the decoder's error once it fails again and again.
        """
        for store in plan.stores:
            self._store(store)
        for move in plan.moves:
            self._decoder.move(*move)
        for slot in plan.vacated:
            self._decoder.release(slot)
        for copy in plan.copies:
            self._decoder.fetch(*copy)
        if self._decoder.batch_invariant and plan.prefill and len(plan.decode) + len(plan.prefill) > 1:
            return self._run_together(plan) or self._run_apart(plan)
        return self._run_apart(plan)

    def _run_together(self, plan: Plan) -> Outcome | None:
        """Rows and chunks in one run, which reads the weights once; None if it failed."""
        outcome, begun = Outcome(), self._clock()
        try:
            rows, chunks = [row.span for row in plan.decode], [chunk.span for chunk in plan.prefill]
            logits = self._decoder.compute([*rows, *chunks])
        except BaseException as error:  # noqa: BLE001  # the part that is to blame shows when they are computed apart
            _log.warning("engine.step_failed", exc_info=error, next="its parts are computed one by one")
            return None
        ends = list(accumulate((span.logits for span in chunks), initial=len(rows) + plan.draft_tokens))
        outcome.decoded = self._decode(plan.decode, outcome, logits[: ends[0]])
        outcome.prefilled = [
            self._prefill(chunk, outcome, logits[begin:end])
            for chunk, (begin, end) in zip(plan.prefill, pairwise(ends), strict=True)
        ]
        spent = self._clock() - begun
        outcome.decode_s = spent * ends[0] / plan.token_count
        outcome.prefill_s = spent - outcome.decode_s
        return outcome

    def _run_apart(self, plan: Plan) -> Outcome:
        outcome, begun = Outcome(), self._clock()
        outcome.decoded = self._decode(plan.decode, outcome)
        decoded_at = self._clock()
        outcome.prefilled = [self._prefill(chunk, outcome) for chunk in plan.prefill]
        outcome.decode_s, outcome.prefill_s = decoded_at - begun, self._clock() - decoded_at
        return outcome

    def _compute_rows(self, rows: Sequence[DecodeRow]) -> Logits:
        if self._decoder.batch_invariant:
            return self._decoder.compute([row.span for row in rows])
        return self._decoder.decode([row.token for row in rows], [row.position for row in rows])

    def _decode(
        self, rows: Sequence[DecodeRow], outcome: Outcome, logits: Logits | None = None
    ) -> list[tuple[int, ...] | LlmosError] | LlmosError:
        """The tokens that follow rows; `logits` if those are computed."""
        if not rows:
            return []
        try:
            logits = self._compute_rows(rows) if logits is None else logits
            decoded: list[tuple[int, ...] | LlmosError] = []
            begin = 0
            for request_id, _, _, position, samples, _, draft in rows:
                end = begin + 1 + len(draft)
                if samples and request_id is not None:
                    decoded.append(self._choose(request_id, logits[begin:end], position + 1, draft, outcome))
                else:
                    decoded.append(())
                begin = end
            for store in [row.store for row in rows if row.store is not None]:
                self._store(store)
        except BaseException as error:  # noqa: BLE001  # an error of the model's runtime must not end the others
            return self._failed("decode", error, rows=len(rows))
        self._failures["decode"] = 0
        return decoded

    def _prefill(self, chunk: Chunk, outcome: Outcome, logits: Logits | None = None) -> int | LlmosError | None:
        """The token that follows a chunk, if one is chosen; `logits` if those are computed."""
        token = None
        try:
            source = self._sources.pop(chunk.request_id, None)
            if source is not None and isinstance(self._decoder, SourceDecoder):
                self._decoder.encode(chunk.slot, source)
            logits = self._decoder.compute([chunk.span]) if logits is None else logits
            if chunk.scores_prompt:
                scores = self._states[chunk.request_id].score_prompt(logits, chunk.start)
                outcome.prompt_scores[chunk.request_id] = scores
            if chunk.samples:
                position = chunk.start + len(chunk.tokens)
                chosen = self._choose(chunk.request_id, logits[-1:], position, (), outcome)
                if isinstance(chosen, LlmosError):
                    return chosen
                token = chosen[0] if chosen else None
            for store in chunk.stores:
                self._store(store)
        except BaseException as error:  # noqa: BLE001  # as above
            return self._failed("prefill", error, request_id=chunk.request_id)
        self._failures["prefill"] = 0
        return token

    def _choose(
        self, request_id: str, logits: Logits, position: int, draft: tuple[int, ...], outcome: Outcome
    ) -> tuple[int, ...] | LlmosError:
        """The token at `position`, and one more for each token of the draft that is the one chosen before it.

        If the grammar fails first, its error. After a token, the error is left to the next step, where it recurs.
        """
        state = self._states[request_id]
        choices: list[Choice] = []
        for index, row in enumerate(logits):
            try:
                choice = state.choose(row, position + index)
            except LlmosError as error:
                if not choices:
                    return error
                break
            if choice is None:
                break
            choices.append(choice)
            if draft[index : index + 1] != (choice.token,):
                break
        if choices and choices[0].score is not None:
            outcome.scores[request_id] = tuple([choice.score for choice in choices if choice.score is not None])
        if state.grammar_ended:
            outcome.grammar_ended.add(request_id)
        return tuple([choice.token for choice in choices])

    def _store(self, store: Store) -> None:
        slot, start, block = store
        self._decoder.store(slot, start, block)

    def _failed(self, part: str, error: BaseException, **where: int | str) -> LlmosError:
        """The error that the sequences of the part end with; raises `error` if the decoder failed too often."""
        error_id = uuid.uuid4().hex[:12]
        _log.error("engine.decoder_failed", error_id=error_id, part=part, exc_info=error, **where)
        self._failures[part] += 1
        if self._failures[part] >= _FAILURES:
            raise error
        return Internal(f"the model failed while computing; error id {error_id}")
