"""Any order of submits, cancels and steps, with a prefix cache or none, against what each sequence gives alone."""

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.inference.engine.batcher import Batcher
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Outcome
from services.inference.engine.sample import SampleDecoder
from services.inference.engine.sequence import SamplingParams, SequenceRequest, SequenceUpdate
from shared.contracts.gateway import FinishReason
from shared.errors import Internal, Overloaded
from tests.support.engines import sequence_request
from tests.support.sampling import sample

MAX_LEN, VOCAB = 48, 17
GREEDY = SamplingParams(1, temperature=0.0)


def alone(request: SequenceRequest) -> list[int]:
    """What the sequence generates without neighbours, chunks, moves or interruption."""
    decoder = SampleDecoder(slots=1, max_len=MAX_LEN, vocab_size=VOCAB)
    tokens, generated, sampling = list(request.prompt), [], request.sampling
    while len(generated) < sampling.max_tokens and not (generated and sampling.ends(generated[-1])):
        logits = decoder.prefill(0, tokens, 0, last=True)
        generated += sample(logits, [sampling], [len(tokens)])
        tokens.append(generated[-1])
    return generated


class EngineMachine(RuleBasedStateMachine):
    @initialize(
        slots=st.integers(1, 5),
        chunk=st.integers(1, 9),
        spare=st.integers(0, 12),
        waiting=st.integers(0, 12),
        blocks=st.sampled_from([0, 1, 2, 5, 20]),
    )
    def start(self, slots: int, chunk: int, spare: int, waiting: int, blocks: int) -> None:
        self.limits = EngineLimits(slots + chunk + spare, chunk, waiting, 120, cache_blocks=blocks)
        self.decoder = SampleDecoder(slots=slots, max_len=MAX_LEN, vocab_size=VOCAB)
        self.decoder.reserve_blocks(blocks, chunk)
        self.copied = 0
        self.batcher = Batcher(slots=slots, max_len=MAX_LEN, vocab_size=VOCAB, limits=self.limits)
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
        max_tokens=st.integers(1, 20),
        temperature=st.sampled_from([0.0, 0.0, 0.8]),
        top_k=st.sampled_from([0, 3]),
        seed=st.integers(0, 3),
        resumed=st.integers(0, 20),
    )
    def submit(self, *, prompt, beginning, tenant, salt, max_tokens, temperature, top_k, seed, resumed) -> None:
        prompt = [*range(1, beginning), *prompt]
        request = sequence_request(
            f"r{len(self.requests)}",
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            eos=(0,),
        )
        expected = alone(request)
        done = expected[:resumed]
        request = replace(request, resumed=done, tenant=tenant, cache_salt=salt)
        try:
            self.batcher.admit(request, 0.0)
        except Overloaded:
            assert 2 * self.batcher.waiting >= self.limits.max_waiting or self.batcher.queued_tokens + 20 > 60
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
        streams = {s.id for s in self.batcher.sequences.values() if s.computed >= len(s.request.prompt)}
        assert streams - advanced == {s.id for s in self.batcher.sequences.values() if s.parked and not s.prompt_left}
        for store in plan.stores:
            self.decoder.store(store.slot, store.start, store.block.index)
        for move in plan.moves:
            self.decoder.move(*move)
        for slot in plan.vacated:
            self.decoder.release(slot)
        for copy in plan.copies:
            self.decoder.fetch(copy.block.index, copy.slot, copy.start)
            self.copied += self.limits.prefill_chunk if copy.block.key else 0
        decoded: list[int] | Internal = []
        if plan.decode:
            logits = self.decoder.decode([r.token for r in plan.decode], [r.position for r in plan.decode])
            sampling = [r.sequence.request.sampling if r.sequence else GREEDY for r in plan.decode]
            decoded = sample(logits, sampling, [r.position + 1 for r in plan.decode])
        prefilled: list[int | Internal | None] = []
        for chunk in plan.prefill:
            logits = self.decoder.prefill(chunk.slot, chunk.tokens, chunk.start, last=chunk.chooses)
            end = chunk.start + len(chunk.tokens)
            if chunk.block is not None and fail != "prefill":
                self.decoder.store(chunk.slot, chunk.start, chunk.block.index)
            prefilled.append(None if logits is None else sample(logits, [chunk.sequence.request.sampling], [end])[0])
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

    def take_in(self, updates: list[SequenceUpdate], failing: set[str]) -> None:
        for update in updates:
            assert update.request_id not in self.ended, "told after its end"
            self.tokens[update.request_id] += update.token_ids
            assert update.completion_tokens == len(self.tokens[update.request_id])
            assert update.cached_tokens % self.limits.prefill_chunk == 0
            assert update.cached_tokens < len(self.requests[update.request_id].prompt), "no token was computed"
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
                assert (self.ended[request_id] is FinishReason.STOP) == (tokens[-1] == 0)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.batcher.check_integrity()
        assert self.batcher.cached_blocks <= self.limits.cache_blocks
        assert self.batcher.cache_tokens[0] == self.copied
        assert self.requests.keys() - self.ended.keys() == self.batcher.sequences.keys()

    def teardown(self) -> None:
        """Nobody starves: all ends within as many steps as there are tokens, and every slot is given back."""
        if not hasattr(self, "batcher"):
            return
        for _ in range(sum(len(r.prompt) + r.sampling.max_tokens for r in self.requests.values()) + 2):
            if self.batcher.has_work:
                self.step(None, "")
        assert not self.batcher.has_work
        assert self.ended.keys() == self.requests.keys()
        assert self.decoder.used_slots() == []
        self.every_token_is_the_one_that_the_sequence_gives_alone()


EngineMachine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEngineMachine = EngineMachine.TestCase
