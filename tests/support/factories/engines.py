"""Engines and requests for tests, with defaults."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from services.inference.engine.decoder import Decoder
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sampling.params import SamplingParams

SMALL = EngineLimits(step_tokens=16, prefill_chunk=8, max_waiting=64, max_queued_tokens=4096, keep_slot_s=0.0)


def sequence_request(
    request_id: str = "r",
    prompt: Sequence[int] = (1, 2, 3),
    *,
    resumed: Sequence[int] = (),
    max_tokens: int = 8,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    eos: tuple[int, ...] = (),
    tenant: str = "",
    cache_salt: str = "",
) -> SequenceRequest:
    sampling = SamplingParams(max_tokens, temperature, top_k, top_p, seed, eos)
    return SequenceRequest(request_id, prompt, resumed, sampling=sampling, tenant=tenant, cache_salt=cache_salt)


class EngineUnderTest:
    """A started engine that keeps its updates."""

    def __init__(self, decoder: Decoder, limits: EngineLimits = SMALL) -> None:
        self.updates: dict[str, list[SequenceUpdate]] = {}
        self.steps: list[list[SequenceUpdate]] = []
        self.fatal: list[BaseException] = []
        self._news = threading.Condition()
        self.engine = Engine(decoder, limits, self._on_step, on_fatal=self.fatal.append)

    def __enter__(self) -> Self:
        self.engine.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.engine.close()

    def run(self, *requests: SequenceRequest) -> dict[str, tuple[int, ...]]:
        """Submit all at once and wait; the new tokens of each."""
        for request in requests:
            self.engine.submit(request)
        return {request.request_id: self.tokens(request.request_id) for request in requests}

    def tokens(self, request_id: str) -> tuple[int, ...]:
        """All new tokens of a sequence, once it ended."""
        self.finish(request_id)
        return tuple(token for update in self.updates[request_id] for token in update.token_ids)

    def finish(self, request_id: str, timeout: float = 60.0) -> SequenceUpdate:
        """The last update of a sequence, once it ended."""
        return self.wait(request_id, lambda updates: bool(updates) and updates[-1].finish is not None, timeout)

    def wait(self, request_id: str, predicate, timeout: float = 60.0) -> SequenceUpdate:
        with self._news:
            assert self._news.wait_for(lambda: predicate(self.updates.get(request_id, [])), timeout), "no such update"
            return self.updates[request_id][-1]

    def wait_idle(self, timeout: float = 60.0) -> None:
        """Wait until nothing runs and all memory was given back."""
        with self._news:
            assert self._news.wait_for(lambda: self.engine.idle, timeout)

    def _on_step(self, updates: list[SequenceUpdate]) -> None:
        with self._news:
            self.steps.append(updates)
            for update in updates:
                self.updates.setdefault(update.request_id, []).append(update)
            self._news.notify_all()
