"""What has no HTTP: OpenVINO GenAI in a process of its own, and the bare ONNX Runtime loop as the bound."""

import json
import math
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.bare_loop import BareLoop
from benchmarks.serving.client import Completion
from benchmarks.serving.figures import Figures
from benchmarks.serving.prompts import Messages
from services.inference.runtime.onnx_decoder import GRAPH_FILE
from shared.contracts.manifest import DecoderSpec


class OpenVino:
    """A worker that asks the pipeline from within its process."""

    name = "openvino"

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, prompts: list[Messages], *, concurrency: int, max_tokens: int) -> list[Completion]:
        """Ask all prompts, `concurrency` at a time."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"prompts": prompts, "concurrency": concurrency, "max_tokens": max_tokens}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"OpenVINO's worker ended with {self._process.wait()}")
        return [Completion(**answer) for answer in json.loads(line)["answers"]]


@contextmanager
def openvino(python: Path, gguf: Path, log: Path) -> Iterator[OpenVino]:
    """The worker under `python`; what it prints goes to `log`."""
    worker = Path(__file__).with_name("openvino_worker.py")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(python), str(worker), str(gguf)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
    try:
        yield OpenVino(process)
    finally:
        process.terminate()
        process.wait()


class Bound:
    """The same graph in the shortest loop: no queue, HTTP or text; prompts one after the other, then one batch."""

    name = "bound"

    def __init__(self, model_dir: Path, spec: DecoderSpec, *, threads: int, max_len: int) -> None:
        self._model, self._spec, self._threads, self._max_len = model_dir / GRAPH_FILE, spec, threads, max_len
        self._rng = np.random.default_rng(0)
        self._loops: dict[int, BareLoop] = {}

    def run(self, *, requests: int, concurrency: int, prompt_tokens: int, max_tokens: int) -> Figures:
        """Waves of `concurrency` prompts and answers; tokens a second."""
        loop = self._loop(concurrency)
        waves = math.ceil(requests / concurrency)
        start = time.perf_counter()
        for _ in range(waves):
            for _ in range(concurrency):
                loop.prefill(self._rng.integers(100, self._spec.vocab_size, prompt_tokens))
            for position in range(prompt_tokens, prompt_tokens + max_tokens - 1):
                loop.decode(position)
        wall = time.perf_counter() - start
        return {"output_tok_per_s": round(waves * concurrency * max_tokens / wall, 2)}

    def _loop(self, batch: int) -> BareLoop:
        if batch not in self._loops:
            self._loops.clear()  # one batch's buffers at a time
            self._loops[batch] = BareLoop(
                self._model, self._spec, batch=batch, max_len=self._max_len, threads=self._threads
            )
            self._loops[batch].decode(1)
        return self._loops[batch]
