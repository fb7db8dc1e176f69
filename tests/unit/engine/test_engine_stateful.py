"""Any order of submits, cancels and steps, with a prefix cache or none, against what each sequence gives alone.

On both kinds of decoders: one that is not uniform gives other tokens as soon as one is computed in another way.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.inference.engine.batcher import Batcher
from services.inference.engine.decoder import Logits
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Outcome, Plan, Row
from services.inference.engine.scripted_decoder import SampleDecoder
from services.inference.engine.sequence import SamplingParams, SequenceRequest, SequenceUpdate
from shared.contracts.gateway import FinishReason
from shared.errors import Internal, Overloaded
from tests.support.factories.engines import sequence_request
from tests.support.factories.sampling import sample
from tests.support.factories.spans import prefill

MAX_LEN, VOCAB = 48, 17
GREEDY = SamplingParams(1, temperature=0.0)


def alone(request: SequenceRequest, chunk: int | None, vocab: int) -> list[int]:
    """What the sequence generates without neighbours, moves or interruption.

    With `chunk` its prompt is computed in chunks of this size and its answer as rows, on a decoder that is not
    uniform; without, everything is computed in one chunk each time.
    """
    decoder = SampleDecoder(slots=1, max_len=MAX_LEN, vocab_size=vocab, uniform=chunk is None)
    tokens, generated, sampling = list(request.prompt), [], request.sampling
    for start in range(0, len(tokens), chunk or len(tokens)):
        logits = prefill(decoder, 0, tokens[start : start + (chunk or len(tokens))], start)
    while len(generated) < sampling.max_tokens and not (generated and sampling.ends(generated[-1])):
        generated += sample(logits, [sampling], [len(tokens)])
        tokens.append(generated[-1])
        if chunk is None:
            logits = prefill(decoder, 0, tokens)
        elif len(tokens) < MAX_LEN:
            logits = decoder.decode(tokens[-1:], [len(tokens) - 1])
    return generated


class EngineMachine(RuleBasedStateMachine):
    uniform = False
    vocab = VOCAB

    @initialize(
        slots=st.integers(1, 5),
        chunk=st.sampled_from([3, 2, 4, 1, 9]),
        spare=st.integers(0, 12),
        waiting=st.sampled_from([12, 4, 1, 0]),
        blocks=st.sampled_from([20, 30, 5, 2, 1, 0]),
    )
    def start(self, slots: int, chunk: int, spare: int, waiting: int, blocks: int) -> None:
        self.limits = EngineLimits(
            *(slots + chunk + spare, chunk, waiting, 120), cache_blocks=blocks, keep_slot_s=0.0, row_cost=0.02
        )
        self.decoder = SampleDecoder(slots=slots, max_len=MAX_LEN, vocab_size=self.vocab, uniform=self.uniform)
        self.decoder.reserve_blocks(blocks, chunk)
        self.copied = 0
        self.batcher = Batcher(
            slots=slots, max_len=MAX_LEN, vocab_size=self.vocab, limits=self.limits, uniform=self.uniform
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
        resumed=st.sampled_from([0, 0, 0, 3, 9, 20]),
    )
    def submit(self, *, prompt, beginning, tenant, salt, max_tokens, temperature, top_k, seed, eos, resumed):
        prompt = [token % self.vocab for token in (*range(1, beginning), *prompt)]
        request = sequence_request(
            f"r{len(self.requests)}",
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            eos=(eos,),
        )
        self.admit(replace(request, tenant=tenant, cache_salt=salt), resumed)

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
        expected = alone(request, None if self.uniform else self.limits.prefill_chunk, self.vocab)
        done = expected[:resumed]
        request = replace(request, resumed=tuple(done))
        try:
            self.batcher.admit(request, 0.0)
        except Overloaded:
            most = self.batcher.queued_tokens + len(request.prompt) + len(done)
            assert 2 * self.batcher.waiting >= self.limits.max_waiting or most > 60
            return
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
        plan, updates = self.batcher.plan(0.0)
        self.batcher.check_integrity(between_steps=False)
        assert plan.token_count <= self.limits.step_tokens
        advanced = {row.sequence.id for row in plan.decode if row.sequence}
        streams = {s.id for s in self.batcher.sequences.values() if not s.prefill_left}
        assert streams - advanced == {
            s.id for s in self.batcher.sequences.values() if s.parked and not s.prefill_left
        }
        for store in plan.stores:
            self.decoder.store(store.slot, store.start, store.block.index)
        for move in plan.moves:
            self.decoder.move(*move)
        for slot in plan.vacated:
            self.decoder.release(slot)
        for copy in plan.copies:
            self.decoder.fetch(copy.block.index, copy.slot, copy.start)
            self.copied += self.limits.prefill_chunk if copy.block.key else 0
        rows, chunks = self.compute(plan)
        decoded: list[tuple[int, ...]] | Internal = []
        if plan.decode:
            decoded = [self.choose(row, logits) for row, logits in zip(plan.decode, rows, strict=True)]
            for store in [r.store for r in plan.decode if r.store and fail != "decode"]:
                self.decoder.store(store.slot, store.start, store.block.index)
        prefilled: list[int | Internal | None] = []
        for chunk, logits in zip(plan.prefill, chunks, strict=True):
            end = chunk.start + len(chunk.tokens)
            for store in chunk.stores if fail != "prefill" else ():
                self.decoder.store(store.slot, store.start, store.block.index)
            prefilled.append(sample(logits, [chunk.sequence.request.sampling], [end])[0] if chunk.chooses else None)
        if cancel_in_step is not None and self.batcher.sequences:
            self.cancel(cancel_in_step)
        if fail == "decode":
            decoded = Internal("injected")
        if fail == "prefill":
            prefilled = [Internal("injected") for _ in prefilled]
        failing = (
            advanced if fail == "decode" else {c.sequence.id for c in plan.prefill} if fail == "prefill" else set()
        )
        updates += self.batcher.apply(plan, Outcome(decoded, prefilled), 0.0)
        self.take_in(updates, failing)

    def choose(self, row: Row, logits: Logits) -> tuple[int, ...]:
        """The token after a row, and after each of its draft that agrees with the one before."""
        sampling = row.sequence.request.sampling if row.sequence else GREEDY
        tokens = sample(logits, [sampling] * len(logits), range(row.position + 1, row.position + 1 + len(logits)))
        agree = [token == guess for token, guess in zip(tokens, row.draft, strict=False)]
        return tuple(tokens[: [*agree, False].index(False) + 1])

    def compute(self, plan: Plan) -> tuple[list[Logits], list[Logits]]:
        """The logits of each row and its draft, and those of each chunk."""
        rows, chunks = [row.span for row in plan.decode], [chunk.span for chunk in plan.prefill]
        assert not (chunks and plan.draft_tokens), "drafts beside a chunk"
        if self.uniform:
            logits = self.decoder.compute([*rows, *chunks])
            ends = np.cumsum([0, *(span.wanted for span in (*rows, *chunks))])
            parts = [logits[begin:end] for begin, end in pairwise(ends)]
            return parts[: len(rows)], parts[len(rows) :]
        assert not plan.draft_tokens, "a draft, where a token depends on its neighbours"
        assert [row.slot for row in plan.decode] == list(range(len(rows))), "rows lie apart"
        tokens, positions = [row.token for row in plan.decode], [row.position for row in plan.decode]
        decoded = self.decoder.decode(tokens, positions) if rows else np.empty((0, VOCAB), np.float32)
        return [decoded[index : index + 1] for index in range(len(rows))], [
            self.decoder.compute([span]) for span in chunks
        ]

    @rule(count=st.integers(2, 20))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step(None, "")

    def take_in(self, updates: list[SequenceUpdate], failing: set[str]) -> None:
        for update in updates:
            assert update.request_id not in self.ended, "told after its end"
            self.tokens[update.request_id] += update.token_ids
            assert update.completion_tokens == len(self.tokens[update.request_id])
            request = self.requests[update.request_id]
            of_prompt, rest = len(request.prompt), update.cached_tokens % self.limits.prefill_chunk
            if request.resumed and self.uniform:
                assert update.cached_tokens == of_prompt or (update.cached_tokens < of_prompt and not rest)
            else:
                assert update.cached_tokens < of_prompt, "no token was computed"
                assert not rest
            assert (update.timings is None) == (update.finish is None)
            assert (update.error is None) == (update.finish is not FinishReason.ERROR)
            if update.finish is FinishReason.ERROR:
                assert update.request_id in failing
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
                ends = self.requests[request_id].sampling.ends(tokens[-1])
                assert (self.ended[request_id] is FinishReason.STOP) == ends

    @invariant()
    def nothing_is_lost(self) -> None:
        self.batcher.check_integrity()
        assert self.batcher.cached_blocks <= self.limits.cache_blocks
        assert self.batcher.counters.cached_tokens == self.copied
        assert self.requests.keys() - self.ended.keys() == self.batcher.sequences.keys()

    def teardown(self) -> None:
        """Nobody starves: all ends within as many steps as there are tokens, and every slot is given back."""
        if not hasattr(self, "batcher"):
            return
        for _ in range(sum(len(r.prompt) + r.sampling.max_tokens for r in self.requests.values()) + 2):
            if self.batcher.idle_s(0.0) is not None:
                self.step(None, "")
        assert self.batcher.idle_s(0.0) is None
        assert self.ended.keys() == self.requests.keys()
        assert self.decoder.used_slots() == []
        self.every_token_is_the_one_that_the_sequence_gives_alone()


class UniformEngineMachine(EngineMachine):
    uniform = True


class RepetitiveEngineMachine(UniformEngineMachine):
    """With so few tokens, most pairs came before: nearly every step computes drafts, and some are right."""

    vocab = 2


EngineMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
UniformEngineMachine.TestCase.settings = RepetitiveEngineMachine.TestCase.settings = EngineMachine.TestCase.settings
TestEngineMachine = EngineMachine.TestCase
TestUniformEngineMachine = UniformEngineMachine.TestCase
TestRepetitiveEngineMachine = RepetitiveEngineMachine.TestCase
