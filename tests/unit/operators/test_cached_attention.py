"""`CachedAttention` is ONNX Runtime's GroupQueryAttention, with the same bits however a text is cut into steps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness.one_node import Array, OneNode, fast_kernels

HEADS, KV_HEADS, SIZE, CAPACITY = 6, 2, 16, 64
NORMAL, INTERLEAVED = 0, 1


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def angles() -> tuple[Array, Array]:
    turns = np.outer(np.arange(CAPACITY), 10_000.0 ** (-np.arange(SIZE // 2) / (SIZE // 2)))
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


def attention(
    *, packed: bool = True, rotary: int | None = NORMAL, window: int = -1, slots: bool = False, **changes: Any
) -> OneNode:
    attributes = {
        "num_heads": HEADS, "kv_num_heads": KV_HEADS, "head_size": SIZE, "rotary_interleaved": rotary or 0,
        "local_window_size": window, "scale": 0.2,
    }  # fmt: skip
    names = ["query", *(["", ""] if packed else ["key", "value"]), "past_key", "past_value", "seqlens_k"]
    constants = {} if rotary is None else dict(zip(("cos", "sin"), angles(), strict=True))
    example = step_inputs(packed=packed)
    if slots:
        names += [*(constants or ["", ""]), "slots"]
        example["slots"] = np.zeros(1, np.int32)
    else:
        names += constants
    return OneNode("CachedAttention", names, 3, example=example, constants=constants, **(attributes | changes))


def step_inputs(
    *, batch: int = 1, new: int = 1, packed: bool = True, lengths: list[int] | None = None
) -> dict[str, Array]:
    width = HEADS * SIZE + (2 * KV_HEADS * SIZE if packed else 0)
    inputs = {
        "query": random(batch, new, width),
        "past_key": random(batch, KV_HEADS, CAPACITY, SIZE, seed=1),
        "past_value": random(batch, KV_HEADS, CAPACITY, SIZE, seed=2),
        "seqlens_k": np.array(lengths or [new] * batch, np.int32) - 1,
    }
    if not packed:
        inputs["key"], inputs["value"] = (random(batch, new, KV_HEADS * SIZE, seed=seed) for seed in (3, 4))
    return inputs


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rotary", [NORMAL, INTERLEAVED, None])
@pytest.mark.parametrize("window", [-1, 5, 16])
@pytest.mark.parametrize(
    ("batch", "new", "lengths"), [(3, 1, [7, 20, 1]), (1, 9, [9]), (1, 9, [23]), (1, 1, [CAPACITY])]
)
def test_it_is_group_query_attention(  # noqa: PLR0917  # the table's columns
    packed: bool, rotary: int | None, window: int, batch: int, new: int, lengths: list[int]
) -> None:
    inputs = step_inputs(batch=batch, new=new, packed=packed, lengths=lengths)
    ours = attention(packed=packed, rotary=rotary, window=window)(**inputs)
    rotation = {} if rotary is None else {"do_rotary": 1, "rotary_interleaved": rotary}
    constants = {} if rotary is None else dict(zip(("cos", "sin"), angles(), strict=True))
    inputs["total"] = np.array(max(lengths), np.int32)
    names = ["query", *(["", ""] if packed else ["key", "value"]), "past_key", "past_value", "seqlens_k", "total"]
    theirs = OneNode(
        "GroupQueryAttention", [*names, *constants], 3, example=inputs, constants=constants, domain="com.microsoft",
        num_heads=HEADS, kv_num_heads=KV_HEADS, scale=0.2, local_window_size=window, **rotation,
    )(**inputs)  # fmt: skip
    np.testing.assert_allclose(ours[0], theirs[0], atol=2e-6)
    for sequence, length in enumerate(lengths):
        for cache in (1, 2):
            np.testing.assert_allclose(
                ours[cache][sequence, :, :length], theirs[cache][sequence, :, :length], atol=1e-6
            )


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, CAPACITY - 1), max_size=5),
    st.sampled_from([-1, 5]),
    st.sampled_from([NORMAL, INTERLEAVED, None]),
)
def test_a_text_has_the_same_bits_in_any_chunks(ends: list[int], window: int, rotary: int | None) -> None:
    node = attention(rotary=rotary, window=window)
    whole = step_inputs(new=CAPACITY)
    expected = node(**whole)
    cache = [np.zeros_like(whole["past_key"]), np.zeros_like(whole["past_value"])]
    outputs, start = [], 0
    for end in sorted({*ends, CAPACITY}):
        query = whole["query"][:, start:end]
        output, *cache = node(
            query=query, past_key=cache[0], past_value=cache[1], seqlens_k=np.array([end - 1], np.int32)
        )
        outputs.append(output)
        start = end
    assert np.array_equal(np.concatenate(outputs, axis=1), expected[0])
    assert all(np.array_equal(*pair) for pair in zip(cache, expected[1:], strict=True))


@given(st.lists(st.integers(1, CAPACITY), min_size=2, max_size=9))
@settings(max_examples=20)
def test_a_sequence_has_the_same_bits_alone_and_in_a_batch(lengths: list[int]) -> None:
    node = attention()
    inputs = step_inputs(batch=len(lengths), lengths=lengths)
    together = node(**inputs)
    for i in range(len(lengths)):
        alone = node(**{name: values[i : i + 1] for name, values in inputs.items()})
        assert all(np.array_equal(one[0], many[i]) for one, many in zip(alone, together, strict=True))


@settings(max_examples=40)
@given(
    st.dictionaries(st.integers(0, 6), st.tuples(st.integers(0, CAPACITY - 1), st.integers(1, 20)), min_size=1),
    st.randoms(use_true_random=False),
    st.sampled_from([-1, 5]),
    st.sampled_from([NORMAL, INTERLEAVED, None]),
)
def test_rows_of_any_slots_give_the_bits_of_each_slot_alone(
    texts: dict[int, tuple[int, int]], order: Any, window: int, rotary: int | None
) -> None:
    """Of each slot some tokens from a position on, all mixed in one batch."""
    cache = [random(7, KV_HEADS, CAPACITY, SIZE, seed=seed) for seed in (1, 2)]
    rows = [
        (slot, position)
        for slot, (start, count) in texts.items()
        for position in range(start, min(start + count, CAPACITY))
    ]
    order.shuffle(rows)
    query = random(len(rows), 1, (HEADS + 2 * KV_HEADS) * SIZE, seed=3)
    slots, positions = np.array(rows, np.int32).T
    output, *cache = attention(rotary=rotary, window=window, slots=True)(
        query=query, past_key=cache[0], past_value=cache[1], seqlens_k=positions.copy(), slots=slots.copy()
    )
    alone = attention(rotary=rotary, window=window)
    for slot in range(7):
        mine = [index for index in np.argsort(positions, kind="stable") if slots[index] == slot]
        expected = [values[slot : slot + 1] for values in cache]
        if mine:
            text, *expected = alone(
                query=query[mine].transpose(1, 0, 2), past_key=expected[0], past_value=expected[1],
                seqlens_k=positions[mine[-1:]],
            )  # fmt: skip
            assert np.array_equal(output[mine, 0], text[0])
        assert all(np.array_equal(all_slots[slot], one[0]) for all_slots, one in zip(cache, expected, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slots": np.array([1], np.int32)}, "outside of past_key"),
        ({"slots": np.array([-1], np.int32)}, "outside of past_key"),
        ({"slots": np.array([0, 0], np.int32)}, "slots has not one number"),
    ],
)
def test_slots_that_do_not_fit_are_errors_and_no_crash(change: dict[str, Array], said: str) -> None:
    with pytest.raises(Exception, match=said):
        attention(slots=True)(**(step_inputs() | {"slots": np.zeros(1, np.int32)} | change))


@fast_kernels
@pytest.mark.parametrize("rotary", [NORMAL, INTERLEAVED, None])
def test_fast_kernels_give_the_bits_of_the_plain_ones(
    rotary: int | None, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = step_inputs(new=CAPACITY)
    monkeypatch.setenv("LLMOS_KERNELS", kernels)
    fast = attention(rotary=rotary)(**inputs)
    monkeypatch.setenv("LLMOS_KERNELS", "portable")
    plain = attention(rotary=rotary)(**inputs)
    assert all(np.array_equal(*pair) for pair in zip(fast, plain, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seqlens_k": np.array([CAPACITY], np.int32)}, "beyond the cache"),
        ({"seqlens_k": np.array([-1], np.int32)}, "below the new tokens"),
        ({"seqlens_k": np.array([0, 0], np.int32)}, "one number for each sequence"),
        ({"query": random(1, 1, HEADS * SIZE)}, "query is not"),
        ({"past_value": random(1, KV_HEADS, CAPACITY, 8)}, "past_key or past_value"),
    ],
)
def test_inputs_that_do_not_fit_are_errors_and_no_crash(change: dict[str, Array], said: str) -> None:
    with pytest.raises(Exception, match=said):
        attention()(**(step_inputs() | change))


@pytest.mark.parametrize(
    ("change", "said"), [({"head_size": 12}, "multiple of 8"), ({"num_heads": 5}, "multiple of kv_num_heads")]
)
def test_wrong_attributes_are_refused_when_a_graph_is_loaded(change: dict[str, int], said: str) -> None:
    with pytest.raises(Exception, match=said):
        attention(**change)
