"""Memory stays where it is, however many requests come."""

import ctypes
import random
import threading

import numpy as np
import psutil
import pytest

from devtools.convert import convert_gguf
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceUpdate
from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.gateway import FinishReason
from tests.support.factories.engines import sequence_request
from tests.support.models.small_model import write_small_gguf

MIB = 1 << 20
REQUESTS, WARM = 10_000, 2_500
AT_ONCE = 48


def resident() -> int:
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


class Load:
    """Keeps `AT_ONCE` requests in an engine and remembers nothing but counts."""

    def __init__(self, decoder: OnnxDecoder, limits: EngineLimits) -> None:
        self.ended = self.sent = 0
        self.reasons: dict[FinishReason, int] = {}
        self._random = random.Random(1)
        self._news = threading.Condition()
        self._prefixes = [[self._random.randrange(3, 200) for _ in range(96)] for _ in range(12)]
        self.fatal: list[BaseException] = []
        self.engine = Engine(decoder, limits, self._on_step, on_fatal=self.fatal.append)

    def run(self, until: int) -> None:
        while True:
            with self._news:
                if self.ended >= until:
                    return
                count = min(AT_ONCE - (self.sent - self.ended), until - self.sent)
                if count <= 0:
                    assert self._news.wait(60), "the engine stands still"
                    continue
            for _ in range(count):
                self._send()

    def _send(self) -> None:
        draw, name = self._random, f"r{self.sent}"
        prompt = [*draw.choice(self._prefixes)[: draw.randrange(1, 97)], draw.randrange(3, 200)]
        self.sent += 1
        self.engine.submit(
            sequence_request(
                name,
                prompt,
                max_tokens=draw.randrange(1, 6),
                temperature=draw.choice((0.0, 0.8)),
                top_k=draw.choice((0, 20)),
                top_p=draw.choice((1.0, 0.9)),
                seed=self.sent,
                eos=(2,),
            )
        )
        if draw.random() < 0.05:
            self.engine.cancel(name)

    def _on_step(self, updates: list[SequenceUpdate]) -> None:
        with self._news:
            for update in updates:
                if update.finish is not None:
                    self.ended += 1
                    self.reasons[update.finish] = self.reasons.get(update.finish, 0) + 1
            self._news.notify_all()


@pytest.mark.timeout(300)
def test_ten_thousand_mixed_requests_leave_memory_as_it_was(tmp_path):
    manifest = convert_gguf(write_small_gguf(tmp_path / "small.gguf"), tmp_path / "version")
    decoder = OnnxDecoder(tmp_path / "version", manifest.the_decoder, slots=16, max_len=128, threads=1)
    limits = EngineLimits(step_tokens=512, prefill_chunk=32, max_waiting=4 * AT_ONCE, cache_blocks=16)
    load = Load(decoder, limits)
    load.engine.start()
    try:
        load.run(WARM)
        sizes = [resident()]
        for share in (2, 3, 4):
            load.run(share * WARM)
            sizes.append(resident())
    finally:
        load.engine.close()
    assert load.ended == load.sent == REQUESTS
    assert not load.fatal
    assert load.reasons[FinishReason.CANCELLED] > 0
    assert load.reasons[FinishReason.LENGTH] > REQUESTS // 2
    grown = np.diff(sizes)
    # A kilobyte left over by each request would be 7.5 MiB.
    assert sizes[-1] - sizes[0] < 5 * MIB, [size // 1024 for size in grown]
