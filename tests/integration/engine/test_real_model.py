"""The engine on SmolLM2."""

from dataclasses import replace

import numpy as np
import psutil
import pytest

from services.inference.engine.decoder import Span
from services.inference.engine.limits import EngineLimits
from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.gateway import FinishReason
from shared.errors import CorruptFile, InvalidInput, NotFound
from tests.support.factories.engines import EngineUnderTest, sequence_request
from tests.support.factories.spans import prefill
from tests.support.models.real_model import RealModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = EngineLimits()
PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time there was a",
    "In 1969, humans first",
    "Water boils at 100 degrees because",
    "SELECT name FROM users WHERE",
    "My favourite recipe for bread is " * 6,
    "The theory of relativity states",
    "Dear Sir or Madam,",
    "Q: What is 2+2? A:",
    "日本の首都は",
    "The history of Rome began",
    "import numpy as np\n",
    "Climate change is",
    "A very long story. " * 40,
    "a",
)


def test_a_greedy_batch_of_16_equals_each_answer_alone(real_model: RealModel, decoder: OnnxDecoder):
    requests = [sequence_request(f"r{i}", real_model.encode(text), max_tokens=24) for i, text in enumerate(PROMPTS)]
    with EngineUnderTest(decoder, LIMITS) as under_test:
        together = under_test.run(*requests)
        assert under_test.engine.load().max_batch == 16
        assert {r.request_id: under_test.run(r)[r.request_id] for r in requests[::3]} == {
            r.request_id: together[r.request_id] for r in requests[::3]
        }
    assert "Paris" in real_model.tokenizer.decode(list(together["r0"]))


def test_a_row_has_the_same_bits_in_any_batch(real_model: RealModel, decoder: OnnxDecoder):
    prompts = [real_model.encode(text)[:40] for text in PROMPTS]
    for slot, prompt in enumerate(prompts):
        prefill(decoder, slot, prompt)
    tokens, positions = [prompt[-1] for prompt in prompts], [len(prompt) for prompt in prompts]
    expected = decoder.decode(tokens, positions).copy()
    for batch in (1, 2, 3, 5, 8, 13):
        assert np.array_equal(decoder.decode(tokens[:batch], positions[:batch]), expected[:batch]), batch


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.95, "seed": 11}], ids=["greedy", "drawn"])
def test_what_is_computed_ahead_changes_the_number_of_steps_and_nothing_else(real_model: RealModel, sampling):
    text = "The list again, in the same order. 1. bread 2. cheese 3. milk 4. apples 5. bread 6. cheese 7. milk 8."
    prompts = [real_model.encode(prompt) for prompt in (text, text, PROMPTS[6], PROMPTS[14], text)]
    requests = [sequence_request(f"r{i}", prompt, max_tokens=60, **sampling) for i, prompt in enumerate(prompts)]
    requests = [replace(each, sampling=replace(each.sampling, logprobs=2)) for each in requests]
    sides = []
    for draft_tokens in (0, 7):
        limits = replace(LIMITS, draft_tokens=draft_tokens, cache_blocks=64)
        with EngineUnderTest(real_model.open(slots=16), limits) as under_test:
            for together in (requests[:1], requests[1:4], requests[4:]):  # alone, side by side, from the cache
                under_test.run(*together)
            under_test.wait_idle()
            sides.append((under_test.updates, under_test.engine.load()))
    (plain, slow), (ahead, fast) = sides
    for request_id, updates in plain.items():
        for name in ("token_ids", "scores"):
            expected, got = (
                [each for u in side for each in getattr(u, name)] for side in (updates, ahead[request_id])
            )
            assert got == expected
    assert fast.accepted_tokens > 10
    assert fast.steps < slow.steps


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "top_p": 0.95, "seed": 11}], ids=["greedy", "drawn"])
def test_a_resumed_stream_equals_the_uninterrupted_stream(real_model: RealModel, decoder: OnnxDecoder, sampling):
    asked = sequence_request("whole", real_model.encode(PROMPTS[2]), max_tokens=100, **sampling)
    others = [sequence_request(f"r{i}", real_model.encode(PROMPTS[i]), max_tokens=100) for i in range(3)]
    asked = replace(
        asked,
        sampling=replace(
            asked.sampling,
            repetition_penalty=1.1,
            frequency_penalty=0.2,
            logprobs=1,
            min_tokens=90,
            eos_token_ids=(0, 2),
        ),
    )
    with EngineUnderTest(decoder, LIMITS) as under_test:
        whole = under_test.run(asked)["whole"]
        scores = [score for update in under_test.updates["whole"] for score in update.scores]
        for cut in (10, 75):
            steps = under_test.engine.load().steps
            assert under_test.run(replace(asked, request_id=f"{cut}", resumed=whole[:cut]))[f"{cut}"] == whole[cut:]
            assert [s for update in under_test.updates[f"{cut}"] for s in update.scores] == scores[cut:]
            assert under_test.engine.load().steps - steps <= 100 - cut + 1, "what it had took one step, or two"
        busy = under_test.run(*others, replace(asked, request_id="busy", resumed=whole[:40]))
    assert busy["busy"] == whole[40:]


def test_a_prompt_has_the_same_bits_in_any_chunks(real_model: RealModel, decoder: OnnxDecoder):
    assert decoder.batch_invariant
    prompt = real_model.encode("The quick brown fox jumps over the lazy dog near the river. " * 12)
    one_run = prefill(decoder, 0, prompt).copy()
    for start in range(0, len(prompt), 32):
        logits = prefill(decoder, 1, prompt[start : start + 32], start)
    assert np.array_equal(logits, one_run)


def test_a_prompt_has_the_same_bits_beside_running_streams(real_model: RealModel, decoder: OnnxDecoder):
    text, streams = real_model.encode(PROMPTS[3] * 5), [real_model.encode(text)[:40] for text in PROMPTS[:3]]
    alone = prefill(decoder, 0, text).copy()
    rows = [prefill(decoder, slot, stream).copy() for slot, stream in enumerate(streams, 1)]
    prefill(decoder, 0, text[:9])
    for slot, stream in enumerate(streams, 1):
        prefill(decoder, slot, stream[:-1])
    last = [Span(slot, len(stream) - 1, stream[-1:]) for slot, stream in enumerate(streams, 1)]
    assert np.array_equal(decoder.compute([*last, Span(0, 9, text[9:])]), np.concatenate([*rows, alone]))


def test_a_moved_slot_goes_on_as_if_it_had_stayed(real_model: RealModel, decoder: OnnxDecoder):
    prompt = real_model.encode(PROMPTS[4])
    prefill(decoder, 0, prompt)
    expected = decoder.decode([5], [len(prompt)]).copy()
    prefill(decoder, 7, prompt)
    decoder.release(0)
    decoder.move(7, 0, len(prompt))
    assert np.array_equal(decoder.decode([5], [len(prompt)]), expected)


def test_a_seed_reproduces_its_answer_in_any_company(real_model: RealModel, decoder: OnnxDecoder):
    prompt = real_model.encode("Write a poem about the sea.\n")

    def drawn(name: str, seed: int):
        return sequence_request(name, prompt, max_tokens=16, temperature=0.9, top_p=0.95, top_k=100, seed=seed)

    with EngineUnderTest(decoder, LIMITS) as under_test:
        alone = under_test.run(drawn("alone", 7))["alone"]
        batch = under_test.run(*(drawn(f"r{seed}", seed) for seed in range(5, 9)))
    assert batch["r7"] == alone
    assert len(set(batch.values())) == 4


def test_cancel_frees_the_slot_within_a_step(real_model: RealModel, decoder: OnnxDecoder):
    prompt = real_model.encode(PROMPTS[0])
    with EngineUnderTest(decoder, LIMITS) as under_test:
        under_test.engine.submit(sequence_request("a", prompt, max_tokens=400))
        under_test.wait("a", lambda updates: len(updates) >= 3)
        steps = under_test.engine.load().steps
        under_test.engine.cancel("a")
        assert under_test.finish("a").finish is FinishReason.CANCELLED
        under_test.wait_idle()
        load = under_test.engine.load()
        assert load.steps <= steps + 1
        assert load.free_slots == 16


def test_waves_of_requests_leak_neither_slots_nor_memory(real_model: RealModel, decoder: OnnxDecoder):
    long = real_model.encode("A very long story. " * 40)
    process = psutil.Process()
    sizes = []
    with EngineUnderTest(decoder, LIMITS) as under_test:
        for wave in range(10):
            under_test.run(*(sequence_request(f"{wave}-{i}", long[: 20 + 10 * i], max_tokens=2) for i in range(4)))
            under_test.engine.submit(sequence_request(f"{wave}-end", [1], max_tokens=1))
            under_test.finish(f"{wave}-end")
            sizes.append(process.memory_info().rss)
        under_test.wait_idle()
        load = under_test.engine.load()
        assert (load.running, load.waiting, load.queued_tokens, load.free_slots) == (0, 0, 0, 16)
    assert sizes[-1] - sizes[2] < 8 << 20


def test_released_slots_give_their_memory_back(real_model: RealModel):
    decoder = real_model.open(slots=8, max_len=4096)
    prompt = real_model.encode("word " * 300)[:256]
    prefill(decoder, 0, prompt)
    process = psutil.Process()
    before = process.memory_info().rss
    for slot in range(1, 8):
        prefill(decoder, slot, prompt)
    used = process.memory_info().rss - before
    need = 7 * len(prompt) * real_model.spec.kv_bytes_per_token
    assert 0.8 * need < used < 1.5 * need + (8 << 20)
    for slot in range(8):
        decoder.release(slot)
    assert process.memory_info().rss - before < 0.2 * need
    decoder.close()


def test_a_decoder_refuses_what_it_can_not_do(real_model: RealModel, tmp_path):
    with pytest.raises(InvalidInput, match="1 to 8192"):
        real_model.open(slots=1, max_len=9000)
    with pytest.raises(InvalidInput, match="threads is 0"):
        real_model.open(slots=1, max_len=64, threads=0)
    with pytest.raises(NotFound):
        OnnxDecoder(tmp_path, real_model.spec, slots=1, max_len=64, threads=1)
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(CorruptFile):
        OnnxDecoder(tmp_path, real_model.spec, slots=1, max_len=64, threads=1)
