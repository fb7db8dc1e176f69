"""Compares what a replica computes with what its version's import computed (`shared.contracts.smoke_test`). Pure."""

import platform
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.contracts.smoke_test import SmokeTest

Floats = NDArray[np.float32]

MAX_LOGPROB_LOSS = 1.0
"""By how much, in nats a token, the recorded answer may be less likely where its bits need not be the same."""
MAX_OUTPUT_ERROR = 0.1
"""Of an encoder: root mean square of the difference over that of the recorded numbers. Processors round int8
differently by about 0.01; damage gives about 1."""


def runtime(onnxruntime_version: str) -> str:
    """`SmokeTest.runtime` on this machine."""
    return f"onnxruntime {onnxruntime_version}, {platform.machine()}"


def mean_logprob(logits: Floats, answer: Sequence[int]) -> float:
    """The mean natural logarithm of the probabilities of `answer`; `logits` are [len(answer), vocab_size]."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    scores = shifted[np.arange(len(answer)), answer] - np.log(np.exp(shifted).sum(axis=-1))
    return float(scores.mean())


def wrong_answer(test: SmokeTest, logits: Floats, *, exact: bool) -> str:
    """What is wrong with a decoder's logits after the prompt and each token of the answer; empty if nothing is.

    Args:
        test: The record.
        logits: [n, vocab_size], of the first n tokens of the answer.
        exact: Whether the bits must be those of the import; else the answer may only be a little less likely.
    """
    answer = test.answer[: len(logits)]
    if exact:
        found = tuple(int(token) for token in logits.argmax(axis=-1))
        same = np.isfinite(logits).all() and found == answer
        return "" if same else f"the smoke prompt gives the tokens {list(found)}, at import it gave {list(answer)}"
    logprob = mean_logprob(logits, answer)
    # The mean of fewer tokens than were recorded is another one: then only nonsense is found.
    limit = (test.logprob if len(answer) == len(test.answer) else 2 * test.logprob) - MAX_LOGPROB_LOSS
    if logprob >= limit:  # false for NaN
        return ""
    return f"the answer of the import is unlikely here: {logprob:.2f} nats a token, at import {test.logprob:.2f}"


def wrong_output(test: SmokeTest, output: Floats) -> str:
    """What is wrong with an encoder's output, of which `test.output` has the beginning; empty if nothing is."""
    expected = np.array(test.output)
    found = output.reshape(-1)[: len(expected)]
    error = float(np.sqrt(np.mean((found - expected) ** 2) / max(float(np.mean(expected**2)), 1e-12)))
    if error <= MAX_OUTPUT_ERROR:
        return ""
    return f"the smoke prompt gives other numbers than at import (relative error {error:.2g})"
