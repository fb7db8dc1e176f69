"""Records what a new version gives for a few tokens: replicas compare with it (`shared.contracts.smoke_test`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

import operators
from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.graph import KV_TYPE
from devtools.convert.graph.block_matrix import Floats
from devtools.convert.model_text import ModelText
from shared.contracts.smoke_test import SmokeTest
from shared.smoke_test import mean_logprob, runtime

TEXT = "The capital of France is"
PROMPT, ANSWER = 16, 16
"""Tokens at most."""
OUTPUTS = 32
"""Numbers that are recorded of an encoder's output."""


def record_answer(folder: Path, arch: Architecture, text: ModelText) -> SmokeTest | None:
    """The greedy answer of the decoder in `folder` to `TEXT`; None for a context too short for any."""
    begin = [text.bos_token_id] if text.add_bos_token and text.bos_token_id is not None else []
    encoded = text.tokenizer.encode(TEXT, add_special_tokens=False).ids
    prompt = ([*begin, *encoded] or [0])[: min(PROMPT, arch.context_length - 1)]
    count = min(ANSWER, arch.context_length - len(prompt))
    if not prompt or count < 1:
        return None
    graph = _Graph(folder, arch, places=len(prompt) + count)
    rows = [graph.read(prompt)[-1]]
    answer = [int(rows[0].argmax())]
    while len(answer) < count:
        rows.append(graph.read(answer[-1:])[-1])
        answer.append(int(rows[-1].argmax()))
    graph = _Graph(folder, arch, places=len(prompt) + count)
    at_once = graph.read([*prompt, *answer[:-1]])[-count:]
    return SmokeTest(
        prompt=tuple(prompt),
        answer=tuple(answer),
        logprob=round(mean_logprob(at_once, answer), 4),
        exact=np.array_equal(at_once, np.stack(rows)),
        runtime=runtime(onnxruntime.__version__),
    )


class _Graph:
    """The graph in `folder` with the keys and values of one sequence of at most `places` tokens."""

    def __init__(self, folder: Path, arch: Architecture, *, places: int) -> None:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        operators.register(options)
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._names = [f"{kind}.{layer}" for layer in range(arch.layers) for kind in ("key", "value")]
        shape = (1, arch.kv_heads, places, arch.head_dim)
        self._cache = {name: np.zeros(shape, KV_TYPE) for name in self._names}
        self._length = 0

    def read(self, tokens: Sequence[int]) -> Floats:
        """The logits after each of the next tokens: float32 [tokens, vocab_size]."""
        self._length += len(tokens)
        feeds = {f"past_{name}": values for name, values in self._cache.items()} | {
            "input_ids": np.array([tokens], np.int64),
            "slots": np.zeros(1, np.int32),
            "seqlens_k": np.array([self._length - 1], np.int32),
            "total_sequence_length": np.array(self._length, np.int32),
            "output_index": np.arange(len(tokens), dtype=np.int64),
        }
        logits, *present = self._session.run(["logits", *(f"present_{name}" for name in self._names)], feeds)
        self._cache = dict(zip(self._names, present, strict=True))
        rows: Floats = logits
        return rows
