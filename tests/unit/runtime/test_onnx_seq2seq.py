"""Graphs with an encoder and a decoder, in the engine: the answers of transformers."""

import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from services.inference.engine.decoder import Span
from services.inference.engine.engine import Engine
from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceRequest, SequenceUpdate
from services.inference.engine.sampling.params import SamplingParams
from services.inference.runtime.onnx_seq2seq import OnnxSeq2Seq
from shared.contracts.gateway import FinishReason
from shared.errors import CorruptFile, InvalidInput
from tests.support.models.small_seq2seq import KINDS, expected, small_seq2seq, source_of

MAX_LEN = 32


class Answers:
    """Collects what an engine says."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.finish: dict[str, FinishReason] = {}
        self._changed = threading.Condition()

    def on_step(self, updates: list[SequenceUpdate]) -> None:
        with self._changed:
            for update in updates:
                self.tokens.setdefault(update.request_id, []).extend(update.token_ids)
                if update.finish is not None:
                    self.finish[update.request_id] = update.finish
            self._changed.notify_all()

    def wait(self, *request_ids: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(request_ids) <= self.finish.keys(), timeout=60)


def opened(kind: str, slots: int = 4) -> OnnxSeq2Seq:
    folder, manifest = small_seq2seq(kind)
    assert manifest.seq2seq is not None
    return OnnxSeq2Seq(folder, manifest.seq2seq, slots=slots, max_len=MAX_LEN, threads=1)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def engine(kind: str, answers: Answers) -> Iterator[Engine]:
    engine = Engine(opened(kind), EngineLimits(draft_tokens=0), answers.on_step)
    engine.start()
    yield engine
    engine.close()


def greedy(kind: str, request_id: str, case: dict[str, Any], **values: Any) -> SequenceRequest:
    _, manifest = small_seq2seq(kind)
    assert manifest.seq2seq is not None
    prefix = manifest.seq2seq.prefix
    new = expected(kind)["max_new_tokens"] + 1 - len(prefix)  # transformers counts a forced first token
    values = {"max_tokens": new, "temperature": 0.0, "eos_token_ids": manifest.seq2seq.eos_token_ids} | values
    resumed = values.pop("resumed", ())
    return SequenceRequest(
        request_id, prefix, resumed, sampling=SamplingParams(**values), source=source_of(case, kind)
    )


def answer_of(kind: str, case: dict[str, Any]) -> list[int]:
    _, manifest = small_seq2seq(kind)
    assert manifest.seq2seq is not None
    prefix = manifest.seq2seq.prefix
    assert tuple(case["greedy"][: len(prefix)]) == prefix
    return list(case["greedy"][len(prefix) :])


def test_greedy_answers_of_many_at_once_are_those_of_transformers(
    kind: str, engine: Engine, answers: Answers
) -> None:
    cases = expected(kind)["cases"]
    names = [f"{turn}-{index}" for turn in range(2) for index in range(len(cases))]
    for name in names:  # more than there are slots, so that they start and end at different places
        engine.submit(greedy(kind, name, cases[int(name[2:])]))
    answers.wait(*names)
    for name in names:
        assert answers.tokens[name] == answer_of(kind, cases[int(name[2:])]), name
    assert engine.load().max_batch > 1


def test_an_answer_goes_on_where_another_replica_was_lost(kind: str, engine: Engine, answers: Answers) -> None:
    case = expected(kind)["cases"][1]
    whole = answer_of(kind, case)
    engine.submit(greedy(kind, "r", case, resumed=tuple(whole[:3])))
    answers.wait("r")
    assert answers.tokens["r"] == whole[3:]


def test_sampled_answers_do_not_depend_on_their_neighbours(kind: str, engine: Engine, answers: Answers) -> None:
    cases = expected(kind)["cases"]
    drawn = {"temperature": 1.0, "seed": 7}
    engine.submit(greedy(kind, "alone", cases[0], **drawn))
    answers.wait("alone")
    names = [f"together-{index}" for index in range(len(cases))]
    for index, name in enumerate(names):
        engine.submit(greedy(kind, name, cases[index], **drawn))
    answers.wait(*names)
    assert answers.tokens["together-0"] == answers.tokens["alone"]


def test_a_slot_forgets_the_source_before(kind: str) -> None:
    decoder, cases = opened(kind, slots=1), expected(kind)["cases"]
    _, manifest = small_seq2seq(kind)
    assert manifest.seq2seq is not None

    def first(case: dict[str, Any]) -> "np.ndarray[Any, Any]":
        assert manifest.seq2seq is not None
        decoder.encode(0, source_of(case, kind))
        return decoder.compute([Span(0, 0, manifest.seq2seq.prefix)]).copy()

    fresh = first(cases[0])
    first(cases[-1])  # the longest
    np.testing.assert_allclose(first(cases[0]), fresh, atol=1e-5)
    decoder.release(0)
    np.testing.assert_allclose(first(cases[0]), fresh, atol=1e-5)
    decoder.close()


def test_no_sequence_of_tokens_comes_twice_where_the_model_says_so(answers: Answers) -> None:
    engine = Engine(opened("t5"), EngineLimits(draft_tokens=0), answers.on_step)
    engine.start()
    try:
        case = expected("t5")["cases"][0]
        engine.submit(greedy("t5", "r", case, no_repeat_ngram=2, ignore_eos=True))
        answers.wait("r")
    finally:
        engine.close()
    tokens = [0, *answers.tokens["r"]]
    pairs = list(pairwise(tokens))
    assert len(pairs) == len(set(pairs))


def test_a_graph_that_is_not_the_manifests_is_refused(tmp_path: Any) -> None:
    folder, manifest = small_seq2seq("t5")
    shutil.copytree(folder, tmp_path / "version")
    assert manifest.seq2seq is not None
    with pytest.raises(CorruptFile, match="is not what the manifest says"):
        OnnxSeq2Seq(
            tmp_path / "version", manifest.seq2seq.model_copy(update={"layers": 3}), slots=1, max_len=8, threads=1
        )


@pytest.mark.parametrize("max_len", [1, 4096])
def test_a_slot_takes_what_the_model_takes(max_len: int) -> None:
    folder, manifest = small_seq2seq("t5")
    assert manifest.seq2seq is not None
    with pytest.raises(InvalidInput, match="max_len"):
        OnnxSeq2Seq(folder, manifest.seq2seq, slots=1, max_len=max_len, threads=1)
