"""Batchers that run on a clock of the test's own."""

from services.inference.engine.batcher import Batcher
from services.inference.engine.limits import EngineLimits
from services.inference.engine.plan import Outcome, Plan
from services.inference.engine.request import SequenceUpdate

TOKEN_S = 0.01


def batcher(slots: int = 2, *, batch_invariant: bool = False, **limits: float) -> Batcher:
    defaults = {"step_tokens": 16, "prefill_chunk": 8, "max_waiting": 8, "max_queued_tokens": 1000}
    bounds = EngineLimits(**{**defaults, **limits})
    return Batcher(slots=slots, max_len=64, vocab_size=100, limits=bounds, batch_invariant=batch_invariant)


class Timed:
    """Runs a batcher on a clock of its own.

    A prompt token takes `TOKEN_S` seconds, as a lone decode row does; in a batch, further rows cost half of that.
    """

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher
        self.now = 0.0
        self.ended: dict[str, float] = {}
        self.first: dict[str, float] = {}

    def step(self) -> Plan:
        plan, updates = self.batcher.plan(self.now)
        prefill_s = TOKEN_S * sum(len(chunk.tokens) for chunk in plan.prefill)
        decode_s = TOKEN_S * (1 + len(plan.decode)) / 2 if plan.decode else 0.0
        self.now += prefill_s + decode_s
        prefilled = [9 if chunk.samples else None for chunk in plan.prefill]
        outcome = Outcome([(9,)] * len(plan.decode), prefilled, decode_s=decode_s, prefill_s=prefill_s)
        self.take_in(updates + self.batcher.apply(plan, outcome, self.now))
        self.batcher.check_integrity()
        return plan

    def take_in(self, updates: list[SequenceUpdate]) -> None:
        for update in updates:
            if update.token_ids:
                self.first.setdefault(update.request_id, self.now)
            if update.finish:
                self.ended[update.request_id] = self.now

    def run(self) -> None:
        while self.batcher.sequences:
            self.step()
