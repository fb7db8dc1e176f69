"""Any order of submits, cancels and steps, with a prefix cache or none, against what each sequence gives alone.

On both kinds of decoders: one that is not batch-invariant gives other tokens as soon as one is computed in another
way.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.inference.engine.batcher import Batcher
from services.inference.engine.decoder import Logits, Span
from services.inference.engine.executor import Executor
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Plan
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sampling.logits_processors import LogitsProcessors, Mask
from services.inference.engine.sampling.sampler import Draw, choose
from services.inference.engine.scripted_decoder import ScriptedDecoder
from services.inference.engine.sequence import State
from shared.contracts.gateway import FinishReason
from shared.errors import Internal, InvalidInput, Overloaded
from tests.support.factories.engines import sequence_request
from tests.support.factories.spans import prefill

MAX_LEN, VOCAB = 48, 17


class Grammar:
    """No token is followed by the next one in the vocabulary; ends with its last token, or fails before it.

    Args:
        accepted: Tokens that were generated before.
        vocab: Size of the vocabulary.
        length: Tokens until it ends.
        fails_at: Tokens before it turns out to be too complex.
    """

    def __init__(self, accepted: Sequence[int], vocab: int, length: int, fails_at: int) -> None:
        self.accepted, self.vocab, self.length, self.fails_at = list(accepted), vocab, length, fails_at

    @property
    def finished(self) -> bool:
        return len(self.accepted) >= self.length

    @property
    def fails(self) -> bool:
        return not self.finished and len(self.accepted) >= self.fails_at

    def mask(self) -> Mask:
        assert not self.finished, "a token is chosen after the end of the grammar"
        if self.fails:
            raise InvalidInput("the grammar is too complex")
        bits = 0xFFFFFFFF
        if self.accepted:
            bits ^= 1 << (self.accepted[-1] + 1) % self.vocab
        return np.array([bits], dtype=np.uint32)

    def accept(self, token: int) -> None:
        assert not self.finished, "a token is accepted after the end of the grammar"
        assert not (self.accepted and token == (self.accepted[-1] + 1) % self.vocab), "a forbidden token is accepted"
        self.accepted.append(token)

    def resumed(self, tokens: Sequence[int]) -> "Grammar":
        return Grammar(tokens, self.vocab, self.length, self.fails_at)


class FailingDecoder(ScriptedDecoder):
    """Fails after it computed, for some slots."""

    failing: set[int]
    decode_fails: bool

    def compute(self, spans: Sequence[Span]) -> Logits:
        logits = super().compute(spans)
        if any(span.slot in self.failing for span in spans):
            raise MemoryError("injected")
        return logits

    def decode(self, tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        logits = super().decode(tokens, positions)
        if self.decode_fails:
            raise MemoryError("injected")
        return logits


def alone(request: SequenceRequest, chunk: int | None, vocab: int) -> list[int]:
    """What the sequence generates without neighbours, moves or interruption.

    With `chunk` its prompt is computed in chunks of this size and its answer as rows, on a decoder that is not
    batch-invariant; without, everything is computed in one chunk each time.
    """
    decoder = ScriptedDecoder(slots=1, max_len=MAX_LEN, vocab_size=vocab, batch_invariant=chunk is None)
    tokens, generated, sampling = list(request.prompt), [], request.sampling
    for start in range(0, len(tokens), chunk or len(tokens)):
        logits = prefill(decoder, 0, tokens[start : start + (chunk or len(tokens))], start)
    grammar = request.constraint
    while len(generated) < sampling.max_tokens and not (generated and sampling.ends(generated[-1])):
        grammar = grammar and grammar.resumed(generated)
        if grammar and (grammar.finished or grammar.fails):
            break
        processors = LogitsProcessors.of(sampling, request.prompt, generated)
        draw = Draw(sampling, len(tokens), processors, grammar and grammar.mask())
        generated.append(choose(logits[0], draw).token)
        tokens.append(generated[-1])
        if chunk is None:
            logits = prefill(decoder, 0, tokens)
        elif len(tokens) < MAX_LEN:
            logits = decoder.decode(tokens[-1:], [len(tokens) - 1])
    return generated


class EngineMachine(RuleBasedStateMachine):
    batch_invariant = False
    vocab = VOCAB

    @initialize(
        slots=st.integers(1, 5),
        chunk=st.sampled_from([3, 2, 4, 1, 9]),
        spare=st.integers(0, 12),
        waiting=st.sampled_from([12, 4, 1, 0]),
        blocks=st.sampled_from([20, 30, 5, 2, 1, 0]),
        in_time=st.sampled_from([99, 99, 1, 2, 3, 5]),
    )
    def start(self, *, slots: int, chunk: int, spare: int, waiting: int, blocks: int, in_time: int) -> None:
        self.limits = EngineLimits(
            step_tokens=slots + chunk + spare,
            prefill_chunk=chunk,
            least_piece=1,
            max_waiting=waiting,
            max_queued_tokens=120,
            cache_blocks=blocks,
            keep_slot_s=0.0,
            row_cost=0.02,
        )
        self.token_s = self.limits.step_s / (in_time + 0.5)
        self.decoder = FailingDecoder(
            slots=slots, max_len=MAX_LEN, vocab_size=self.vocab, batch_invariant=self.batch_invariant
        )
        self.executor = Executor(self.decoder, lambda: 0.0)
        self.failures = {"decode": 0, "prefill": 0}
        self.decoder.reserve_blocks(blocks, chunk)
        self.copied = 0
        self.batcher = Batcher(
            slots=slots,
            max_len=MAX_LEN,
            vocab_size=self.vocab,
            limits=self.limits,
            batch_invariant=self.batch_invariant,
        )
        self.requests: dict[str, SequenceRequest] = {}
        self.expected: dict[str, list[int]] = {}
        self.tokens: dict[str, list[int]] = {}
        self.ended: dict[str, FinishReason] = {}
        self.cancelled: set[str] = set()

    @rule(
        prompt=st.lists(st.integers(0, VOCAB - 1), max_size=12),
        beginning=st.sampled_from([4, 9, 16]),
        tenant=st.sampled_from("abb"),
        salt=st.sampled_from(["", "", "salt"]),
        max_tokens=st.sampled_from([20, 12, 4, 1]),
        temperature=st.sampled_from([0.0, 0.0, 0.8]),
        top_k=st.sampled_from([0, 3]),
        seed=st.integers(0, 3),
        eos=st.sampled_from([VOCAB, VOCAB, 0]),
        penalty=st.sampled_from([1.0, 1.0, 1.5]),
        min_tokens=st.sampled_from([0, 0, 1]),
        grammar=st.none() | st.none() | st.tuples(st.integers(1, 15), st.sampled_from([99, 99, 4, 0])),
        resumed=st.sampled_from([0, 0, 0, 3, 9, 20]),
    )
    def submit(  # one for each thing that a request may differ in
        self,
        *,
        prompt,
        beginning,
        tenant,
        salt,
        max_tokens,
        temperature,
        top_k,
        seed,
        eos,
        penalty,
        min_tokens,
        grammar,
        resumed,
    ):
        prompt = [token % self.vocab for token in (*range(1, beginning), *prompt)]
        request = sequence_request(
            f"r{len(self.requests)}",
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            eos=(eos,) if eos < self.vocab else (),
        )
        sampling = replace(request.sampling, repetition_penalty=penalty, min_tokens=min_tokens)
        constraint = grammar and Grammar((), self.vocab, *grammar)
        self.admit(
            replace(request, tenant=tenant, cache_salt=salt, sampling=sampling, constraint=constraint), resumed
        )

    @rule(
        prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3),
        salt=st.sampled_from(["", "", "salt"]),
        turns=st.integers(2, 3),
        max_tokens=st.sampled_from([9, 12, 5]),
        temperature=st.sampled_from([0.0, 0.8]),
    )
    def have_a_conversation(self, *, prompt, salt, turns, max_tokens, temperature) -> None:
        """Each turn begins with what was said before, beside whatever else runs."""
        prompt = [token % self.vocab for token in prompt]
        for turn in range(turns):
            name = f"r{len(self.requests)}"
            asked = sequence_request(name, prompt, max_tokens=max_tokens, temperature=temperature, cache_salt=salt)
            self.admit(asked, 0)
            for _ in range(40):
                if name in self.requests and name not in self.ended:
                    self.step(None, "")
            if name not in self.ended:
                return
            prompt = [*prompt, *self.tokens[name], turn % self.vocab]

    @precondition(lambda self: self.ended)
    @rule(pick=st.integers(0, 100), resumed=st.sampled_from([9, 5, 2]))
    def resume_what_went_on_elsewhere(self, pick: int, resumed: int) -> None:
        before = self.requests[sorted(self.ended)[pick % len(self.ended)]]
        self.admit(replace(before, request_id=f"r{len(self.requests)}"), resumed)

    def admit(self, request: SequenceRequest, resumed: int) -> None:
        request = replace(request, resumed=())
        expected = alone(request, None if self.batch_invariant else self.limits.prefill_chunk, self.vocab)
        done = expected[:resumed]
        constraint = request.constraint and request.constraint.resumed(done)
        request = replace(request, resumed=tuple(done), constraint=constraint)
        try:
            self.batcher.admit(request, 0.0)
        except Overloaded:
            most = self.batcher.queued_tokens + len(request.prompt) + len(done)
            assert 2 * self.batcher.waiting >= self.limits.max_waiting or most > 60
            return
        self.executor.add(request)
        self.requests[request.request_id] = request
        self.expected[request.request_id] = expected
        self.tokens[request.request_id] = done

    @precondition(lambda self: self.batcher.sequences)
    @rule(pick=st.integers(0, 100))
    def cancel(self, pick: int) -> None:
        request_id = sorted(self.batcher.sequences)[pick % len(self.batcher.sequences)]
        self.batcher.cancel(request_id)
        self.cancelled.add(request_id)

    @rule(cancel_in_step=st.none() | st.integers(0, 100), fail=st.sampled_from([""] * 12 + ["decode", "prefill"]))
    def step(self, cancel_in_step: int | None, fail: str) -> None:
        preempted = [s for s in self.batcher.sequences.values() if s.state is State.PREEMPTED]
        plan, updates = self.batcher.plan(0.0)
        self.remove(updates)
        self.batcher.check_integrity(between_steps=False)
        self.check(plan)
        back = {s.slot for s in preempted}
        self.copied += sum(self.limits.prefill_chunk for copy in plan.copies if copy.slot not in back)
        failing = self.fail(plan, fail)
        outcome = self.executor.run(plan)
        outcome.prefill_s = self.token_s * plan.prompt_tokens
        if cancel_in_step is not None and self.batcher.sequences:
            self.cancel(cancel_in_step)
        applied = self.batcher.apply(plan, outcome, 0.0)
        self.remove(applied)
        self.take_in(updates + applied, failing)

    def check(self, plan: Plan) -> None:
        assert plan.token_count <= self.limits.step_tokens
        advanced = {row.request_id for row in plan.decode if row.request_id}
        streams = {s.id for s in self.batcher.sequences.values() if not s.prefill_left}
        assert streams - advanced == {
            s.id for s in self.batcher.sequences.values() if s.state is State.PREEMPTED and not s.prefill_left
        }
        assert not (plan.prefill and plan.draft_tokens), "drafts beside a chunk"
        if not self.batch_invariant:
            assert not plan.draft_tokens, "a draft, where a token depends on its neighbours"
            assert [row.slot for row in plan.decode] == list(range(len(plan.decode))), "rows lie apart"

    def fail(self, plan: Plan, part: str) -> set[str]:
        """Let the decoder fail in this step, but not so often in a row that it counts as broken; whom that hits."""
        rows = [row for row in plan.decode if row.request_id and part == "decode" and self.failures["decode"] < 2]
        chunks = plan.prefill[: 2 - self.failures["prefill"]] if part == "prefill" else ()
        self.decoder.failing = {each.slot for each in (*rows, *chunks)}
        self.decoder.decode_fails = bool(rows)
        if plan.decode:
            self.failures["decode"] = self.failures["decode"] + 1 if rows else 0
        for chunk in plan.prefill:
            self.failures["prefill"] = self.failures["prefill"] + 1 if chunk in chunks else 0
        return {each.request_id for each in (*rows, *chunks) if each.request_id}

    def remove(self, updates: list[SequenceUpdate]) -> None:
        """As the engine does: the executor forgets a request that ended."""
        for update in updates:
            if update.finish:
                self.executor.remove(update.request_id)

    @rule(count=st.integers(2, 20))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step(None, "")

    def take_in(self, updates: list[SequenceUpdate], failing: set[str]) -> None:
        for update in updates:
            assert update.request_id not in self.ended, "an update after its end"
            self.tokens[update.request_id] += update.token_ids
            assert update.completion_tokens == len(self.tokens[update.request_id])
            request = self.requests[update.request_id]
            of_prompt, rest = len(request.prompt), update.cached_tokens % self.limits.prefill_chunk
            if request.resumed and self.batch_invariant:
                assert update.cached_tokens == of_prompt or (update.cached_tokens < of_prompt and not rest)
            else:
                assert update.cached_tokens < of_prompt, "no token was computed"
                assert not rest
            assert (update.timings is None) == (update.finish is None)
            assert (update.error is None) == (update.finish is not FinishReason.ERROR)
            if update.finish is FinishReason.ERROR:
                grammar = request.constraint
                too_complex = grammar is not None and grammar.fails and isinstance(update.error, InvalidInput)
                assert too_complex or (update.request_id in failing and isinstance(update.error, Internal))
            if update.finish:
                self.ended[update.request_id] = update.finish
        assert not self.cancelled - self.ended.keys(), "a cancelled sequence outlived its step"

    @invariant()
    def every_token_is_the_one_that_the_sequence_gives_alone(self) -> None:
        for request_id, tokens in self.tokens.items():
            expected = self.expected[request_id]
            assert tokens == expected[: len(tokens)]
            if self.ended.get(request_id) in (FinishReason.STOP, FinishReason.LENGTH):
                assert tokens == expected
                request = self.requests[request_id]
                ends = request.sampling.ends(tokens[-1]) or (request.constraint and request.constraint.finished)
                assert (self.ended[request_id] is FinishReason.STOP) == bool(ends)

    @invariant()
    def a_grammar_accepted_each_delivered_token_once(self) -> None:
        for request_id in self.batcher.sequences:
            grammar = self.requests[request_id].constraint
            assert grammar is None or grammar.accepted == self.tokens[request_id]

    @invariant()
    def nothing_is_lost(self) -> None:
        self.batcher.check_integrity()
        assert self.batcher.cached_blocks <= self.limits.cache_blocks
        assert self.batcher.counters.cached_tokens == self.copied
        assert self.requests.keys() - self.ended.keys() == self.batcher.sequences.keys()
        assert self.executor.requests == self.batcher.sequences.keys()

    def teardown(self) -> None:
        """No sequence starves: all end within as many steps as there are tokens, and every slot is given back."""
        if not hasattr(self, "batcher"):
            return
        for _ in range(sum(len(r.prompt) + r.sampling.max_tokens for r in self.requests.values()) + 2):
            if self.batcher.idle_s(0.0) is not None:
                self.step(None, "")
        assert self.batcher.idle_s(0.0) is None
        assert self.ended.keys() == self.requests.keys()
        assert self.decoder.used_slots() == []
        self.every_token_is_the_one_that_the_sequence_gives_alone()


class BatchInvariantEngineMachine(EngineMachine):
    batch_invariant = True


class RepetitiveEngineMachine(BatchInvariantEngineMachine):
    """With so few tokens, most pairs came before: nearly every step computes drafts, and some are right."""

    vocab = 2


EngineMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)
BatchInvariantEngineMachine.TestCase.settings = RepetitiveEngineMachine.TestCase.settings = (
    EngineMachine.TestCase.settings
)
TestEngineMachine = EngineMachine.TestCase
TestBatchInvariantEngineMachine = BatchInvariantEngineMachine.TestCase
TestRepetitiveEngineMachine = RepetitiveEngineMachine.TestCase
