"""`CachedAttention` with keys and values in float16: that of their values, with the same bits from all kernels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness.one_node import Array, OneNode, all_kernels

HEADS, KV_HEADS, SIZE, CAPACITY = 6, 2, 72, 64


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def attention(stored: type, *, threads: int = 1, window: int = -1) -> OneNode:
    turns = np.outer(np.arange(CAPACITY), 10_000.0 ** (-np.arange(SIZE // 2) / (SIZE // 2)))
    constants = {"cos": np.cos(turns).astype(np.float32), "sin": np.sin(turns).astype(np.float32)}
    example = step_inputs(stored, [1]) | {"slots": np.zeros(1, np.int32)}
    names = ["query", "", "", "past_key", "past_value", "seqlens_k", "cos", "sin", "slots"]
    return OneNode(
        "CachedAttention", names, [np.float32, stored, stored], example=example, constants=constants, threads=threads,
        num_heads=HEADS, kv_num_heads=KV_HEADS, head_size=SIZE, rotary_interleaved=0, local_window_size=window,
        scale=0.2,
    )  # fmt: skip


def step_inputs(stored: type, lengths: list[int], *, seed: int = 0) -> dict[str, Array]:
    """One new token in each of the slots, which have `lengths` tokens with it."""
    batch = len(lengths)
    past = [random(batch, KV_HEADS, CAPACITY, SIZE, seed=seed + part).astype(np.float16) for part in (1, 2)]
    return {
        "query": random(batch, 1, (HEADS + 2 * KV_HEADS) * SIZE, seed=seed),
        "past_key": past[0].astype(stored),
        "past_value": past[1].astype(stored),
        "seqlens_k": np.array(lengths, np.int32) - 1,
        "slots": np.arange(batch, dtype=np.int32),
    }


@all_kernels
@pytest.mark.parametrize("window", [-1, 7])
def test_it_attends_to_the_values_of_the_halves(window: int, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    lengths = [1, 7, 20, CAPACITY]
    inputs = step_inputs(np.float16, lengths)
    output, keys, values = attention(np.float16, window=window)(**inputs)
    in_floats = attention(np.float32, window=window)
    _, exact_keys, exact_values = in_floats(**step_inputs(np.float32, lengths))
    for half, exact in ((keys, exact_keys), (values, exact_values)):
        assert half.dtype == np.float16
        np.testing.assert_array_equal(half, exact.astype(np.float16))  # to the nearest, of two to the even one
    # The new keys as they were stored; computing them again from the query writes them unrounded, so compare without.
    for sequence, length in enumerate(lengths):
        expected = _attended(inputs["query"][sequence, 0], keys[sequence], values[sequence], length, window)
        np.testing.assert_allclose(output[sequence, 0], expected, atol=2e-6)


def _attended(packed: Array, keys: Array, values: Array, length: int, window: int) -> Array:
    query = packed[: HEADS * SIZE].reshape(HEADS, SIZE).astype(np.float64)
    angles = (length - 1) * 10_000.0 ** (-np.arange(SIZE // 2) / (SIZE // 2))
    first, second = query[:, : SIZE // 2], query[:, SIZE // 2 :]
    turned = np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), first * np.sin(angles) + second * np.cos(angles)], axis=1
    )
    start = max(0, length - window) if window > 0 else 0
    out = []
    for head in range(HEADS):
        seen = slice(start, length)
        source = head * KV_HEADS // HEADS
        scores = keys[source, seen].astype(np.float64) @ turned[head] * 0.2
        shares = np.exp(scores - scores.max())
        out.append(shares / shares.sum() @ values[source, seen].astype(np.float64))
    return np.concatenate(out)


@all_kernels
def test_all_kernels_give_the_same_bits(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = step_inputs(np.float16, [3, 64, 17], seed=9)
    for name in ("past_key", "past_value"):
        inputs[name][0] *= np.float16(1e-6)  # below the normal ones
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    found = attention(np.float16)(**inputs)
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    for ours, plain in zip(found, attention(np.float16)(**inputs), strict=True):
        np.testing.assert_array_equal(ours, plain)


@settings(max_examples=25)
@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=40), st.integers(1, 4), st.data())
def test_a_token_has_the_same_bits_alone_and_in_any_batch(
    lengths: list[int], threads: int, data: st.DataObject
) -> None:
    inputs = step_inputs(np.float16, lengths)
    together = attention(np.float16, threads=threads)(**inputs)[0]
    row = data.draw(st.integers(0, len(lengths) - 1))
    one: dict[str, Any] = {name: values[row : row + 1] for name, values in inputs.items()}
    alone = attention(np.float16)(**(one | {"slots": np.zeros(1, np.int32)}))[0]
    np.testing.assert_array_equal(alone[0], together[row])


@all_kernels
def test_values_beyond_float16_become_its_largest_and_no_number_stays_none(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    inputs = step_inputs(np.float16, [1, 1, 1])
    wide = HEADS * SIZE + KV_HEADS * SIZE
    extremes = [1e6, -1e6, 65519.0, 65504.0, 1e-8, -3e-8, 6e-8, 0.0]
    inputs["query"][0, 0, wide : wide + 8] = extremes
    inputs["query"][1, 0, wide] = np.nan
    _, _, values = attention(np.float16)(**inputs)
    expected = np.clip(np.array(extremes, np.float32), -65504, 65504).astype(np.float16)
    np.testing.assert_array_equal(values[0, 0, 0, :8], expected)
    assert np.isnan(values[1, 0, 0, 0])
    assert np.isfinite(values[2, :, 0]).all()
