"""The batcher against a model of itself: every request ends once, budgets hold, no request starves."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.inference.encoder.batcher import Batch, EncoderBatcher, bucket
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import Encoded, EncodeRequest, TokenRow
from shared.errors import Conflict, Internal, InvalidInput, Overloaded

MAX_LEN = 64
LIMITS = EncoderLimits(batch_tokens=96, fill_tokens=40, max_waiting=6, max_queued_tokens=500)


def row(length: int, mark: int = 0) -> TokenRow:
    return TokenRow(np.full(length, mark, np.int64))


def request(name: str, *lengths: int, tenant: str = "") -> EncodeRequest:
    return EncodeRequest(name, tuple(row(length, index) for index, length in enumerate(lengths)), tenant)


def computed(batch: Batch) -> list[np.ndarray]:
    """A vector that identifies its row: its index and its length."""
    return [np.array([tokens.ids[0], len(tokens)], np.float32) for tokens in batch.rows]


def run(batcher: EncoderBatcher) -> list[tuple[Batch, list[str]]]:
    """Compute all that waits; answers each batch with the requests that finished with it."""
    steps = []
    while (batch := batcher.plan(0.0)) is not None:
        steps.append((batch, [finished.request_id for finished in batcher.complete(batch, computed(batch), 0.0)]))
        batcher.check_integrity()
    return steps


class BatcherMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.batcher = EncoderBatcher(LIMITS, max_len=MAX_LEN)
        self.names = count()
        self.alive: dict[str, EncodeRequest] = {}
        self.batch: Batch | None = None
        self.time = 0.0

    @rule(lengths=st.lists(st.integers(1, MAX_LEN), min_size=1, max_size=12), tenant=st.sampled_from("ab"))
    def admit(self, lengths: list[int], tenant: str) -> None:
        new = request(f"r{next(self.names)}", *lengths, tenant=tenant)
        waiting = self.batcher.waiting >= LIMITS.max_waiting
        over = self.batcher.queued_tokens + sum(lengths) > LIMITS.max_queued_tokens
        if self.alive and (waiting or over):
            with pytest.raises(Overloaded):
                self.batcher.admit(new, self.time)
        else:
            self.batcher.admit(new, self.time)
            self.alive[new.id] = new

    @precondition(lambda self: self.batch is None)
    @rule()
    def plan(self) -> None:
        self.time += 1.0
        self.batch = self.batcher.plan(self.time)
        assert (self.batch is None) == (not self.alive), "who waits is computed at once"
        if self.batch is not None:
            longest = max(map(len, self.batch.rows))
            padded_tokens = len(self.batch.rows) * longest
            assert padded_tokens <= LIMITS.batch_tokens or len(self.batch.rows) == 1
            wasted = [tokens for tokens in self.batch.rows if bucket(len(tokens)) != bucket(longest)]
            assert not wasted or padded_tokens <= LIMITS.fill_tokens

    @precondition(lambda self: self.batch is not None)
    @rule()
    def complete(self) -> None:
        assert self.batch is not None
        self.time += 1.0
        for finished in self.batcher.complete(self.batch, computed(self.batch), self.time):
            expected = self.alive.pop(finished.request_id)  # a second result would be a KeyError
            assert isinstance(finished.result, Encoded)
            found = [(int(vector[0]), int(vector[1])) for vector in finished.result.vectors]
            assert found == [(index, len(tokens)) for index, tokens in enumerate(expected.rows)]
            assert finished.result.queue_s >= 0.0
            assert finished.result.compute_s > 0.0
        self.batch = None

    @precondition(lambda self: self.batch is not None)
    @rule()
    def fail(self) -> None:
        assert self.batch is not None
        hit = {
            ref.request_id
            for ref, tokens in zip(self.batch.refs, self.batch.rows, strict=True)
            if ref.request_id in self.alive and tokens in self.alive[ref.request_id].rows
        }
        finished = self.batcher.complete(self.batch, Internal("broken"), self.time)
        assert {each.request_id for each in finished} == hit
        assert len(finished) == len(hit)
        for each in finished:
            del self.alive[each.request_id]
        self.batch = None

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), again=st.booleans())
    def cancel(self, data: st.DataObject, again: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.alive)))
        assert self.batcher.cancel(name)
        assert not self.batcher.cancel(name)
        del self.alive[name]
        if again and not self.alive:  # another request of the same id, while rows of the first may be computed
            self.alive[name] = request(name, 7, 3)
            self.batcher.admit(self.alive[name], self.time)

    @invariant()
    def books_agree(self) -> None:
        self.batcher.check_integrity()
        assert len(self.batcher) == len(self.alive)

    def teardown(self) -> None:
        if self.batch is not None:
            self.complete()
        for _, names in run(self.batcher):
            for name in names:
                del self.alive[name]
        assert not self.alive, "a request never finished"
        assert self.batcher.queued_tokens == 0


TestBatcher = BatcherMachine.TestCase
TestBatcher.settings = settings(max_examples=60, stateful_step_count=30)


def test_what_waits_is_computed_at_once() -> None:
    batcher = EncoderBatcher(LIMITS, max_len=MAX_LEN)
    batcher.admit(request("one", 5), 0.0)
    batch = batcher.plan(0.0)
    assert batch is not None
    assert [ref.request_id for ref in batch.refs] == ["one"]


def test_rows_of_several_requests_share_a_batch() -> None:
    batcher = EncoderBatcher(LIMITS, max_len=MAX_LEN)
    for name in "abc":
        batcher.admit(request(name, 20), 0.0)
    (only,) = run(batcher)
    assert only[1] == ["a", "b", "c"]


def test_a_small_request_does_not_wait_for_all_of_a_large_one() -> None:
    batcher = EncoderBatcher(EncoderLimits(batch_tokens=96, fill_tokens=40), max_len=MAX_LEN)
    batcher.admit(request("large", *[30] * 60), 0.0)
    first = batcher.plan(0.0)
    assert first is not None
    batcher.complete(first, computed(first), 0.0)
    batcher.admit(request("small", 10), 0.0)
    steps = run(batcher)
    assert "small" in {name for _, finished in steps[:2] for name in finished}
    assert steps[-1][1] == ["large"]


def test_a_large_request_does_not_starve_while_small_ones_keep_coming() -> None:
    batcher = EncoderBatcher(EncoderLimits(batch_tokens=64, fill_tokens=0), max_len=MAX_LEN)
    batcher.admit(request("large", 64, 64, 64), 0.0)
    for number in range(4):
        batcher.admit(request(f"small-{number}", 12), 0.0)
    for number in range(4, 200):
        batcher.admit(request(f"small-{number}", 12), 0.0)  # as many as a batch computes arrive each time
        batcher.admit(request(f"other-{number}", 12), 0.0)
        batch = batcher.plan(0.0)
        assert batch is not None
        if "large" in [finished.request_id for finished in batcher.complete(batch, computed(batch), 0.0)]:
            return
    pytest.fail("the large request never finished")


def test_a_tenants_many_requests_get_no_more_than_anothers_one() -> None:
    batcher = EncoderBatcher(EncoderLimits(batch_tokens=16, fill_tokens=0), max_len=MAX_LEN)
    for number in range(40):
        batcher.admit(request(f"flood-{number}", 16, tenant="flood"), 0.0)
    batcher.admit(request("calm", *[16] * 8, tenant="calm"), 0.0)
    batches = [batch.refs[0].request_id for batch, _ in run(batcher)]
    last_of_calm = max(index for index, name in enumerate(batches) if name == "calm")
    assert last_of_calm <= 2 * 8 + 1


@given(st.integers(1, 100_000))
def test_padding_within_a_bucket_is_at_most_half_of_the_text(length: int) -> None:
    assert length <= bucket(length) <= max(8, length * 1.5)


def test_an_oversized_row_or_an_empty_request_is_refused() -> None:
    batcher = EncoderBatcher(LIMITS, max_len=MAX_LEN)
    for wrong in (request("x", MAX_LEN + 1), request("x", 0), request("x")):
        with pytest.raises(InvalidInput):
            batcher.admit(wrong, 0.0)
    batcher.admit(request("x", 1), 0.0)
    with pytest.raises(Conflict):
        batcher.admit(request("x", 1), 0.0)
    batcher.check_integrity()
