"""One run of a decoder's graph takes tokens of any slots; a graph from before it had `slots` runs as it did."""

import shutil

import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType as Type

from devtools.convert import convert_gguf
from services.inference.engine.decoder import Span
from services.inference.runtime.onnx_decoder import OnnxDecoder
from tests.support.factories.spans import prefill
from tests.support.models.llama_files import VOCABULARY, write_llama

TEXTS = [[5 + slot, *range(9, 20 + 7 * slot)] for slot in range(5)]
MAX_LEN = 64


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step")
    return folder, convert_gguf(write_llama(folder / "small.gguf", Type.Q4_1), folder).the_decoder


@pytest.fixture
def open_decoder(version):
    folder, spec = version
    opened = []

    def make(where=folder, *, slots=5, max_len=MAX_LEN):
        opened.append(OnnxDecoder(where, spec, slots=slots, max_len=max_len, threads=1))
        return opened[-1]

    yield make
    for decoder in opened:
        decoder.close()


@pytest.fixture
def without_slots(version, tmp_path):
    """The version as it was imported before graphs had the input."""
    folder, _ = version
    for path in folder.iterdir():
        if path.is_file() and path.name != "model.onnx":
            shutil.copy(path, tmp_path)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    inputs = [given for given in model.graph.input if given.name != "slots"]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for node in model.graph.node:
        if node.op_type == "CachedAttention":
            assert node.input.pop() == "slots"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path


def test_a_step_of_many_slots_gives_each_the_bits_that_it_has_alone(open_decoder):
    alone, decoder = open_decoder(slots=1), open_decoder()
    expected = [prefill(alone, 0, text, logits=len(text)).copy() for text in TEXTS]
    assert decoder.batch_invariant
    cuts = [len(text) - 1 if slot % 2 else 3 for slot, text in enumerate(TEXTS)]  # one token left, or a chunk
    decoder.compute([Span(slot, 0, text[:cut], 0) for slot, (text, cut) in enumerate(zip(TEXTS, cuts, strict=True))])
    order = [3, 0, 4, 1]
    logits = decoder.compute([Span(slot, cuts[slot], TEXTS[slot][cuts[slot] :], 1 + slot // 4) for slot in order])
    assert np.array_equal(logits, np.concatenate([expected[slot][-1 - slot // 4 :] for slot in order]))
    assert np.array_equal(prefill(decoder, 2, TEXTS[2][3:], 3), expected[2][-1:]), "what was left out is whole"


def test_a_step_may_have_more_tokens_than_a_slot(open_decoder):
    alone, decoder = open_decoder(slots=1), open_decoder(max_len=len(TEXTS[-1]))
    spans = [Span(slot, 0, text) for slot, text in enumerate(TEXTS)]
    assert sum(map(len, TEXTS)) > decoder.max_len
    assert np.array_equal(decoder.compute(spans), np.concatenate([prefill(alone, 0, text).copy() for text in TEXTS]))


def test_a_step_shaped_like_the_one_before_gives_its_own_logits(open_decoder):
    decoder, texts = open_decoder(), [[7, *range(30, 50)], [8, *range(70, 90)]]
    assert len(texts[0]) > decoder.slots + 1, "the logits of all its tokens do not fit the buffer"
    for count in (len(texts[0]), 1):
        for text in texts:
            expected = prefill(open_decoder(slots=1), 0, text, logits=count).copy()
            assert np.array_equal(prefill(decoder, 1, text, logits=count), expected)


def test_no_logits_are_computed_where_none_are_asked_for(open_decoder):
    logits = prefill(open_decoder(), 2, TEXTS[2], logits=0)
    assert logits.shape == (0, VOCABULARY)


def test_a_graph_without_slots_decodes_the_same(open_decoder, without_slots):
    whole, before = open_decoder(), open_decoder(without_slots)
    assert not before.batch_invariant, "it takes one span at a time"
    for slot, text in enumerate(TEXTS):
        assert np.array_equal(prefill(before, slot, text), prefill(whole, slot, text))
        assert prefill(before, slot, text, logits=0).shape == (0, VOCABULARY)
    tokens, positions = [7, 8, 9, 10, 11], [len(text) for text in TEXTS]
    for rows in (5, 1, 3):
        here = before.decode(tokens[:rows], positions[:rows])
        assert np.array_equal(here, whole.decode(tokens[:rows], positions[:rows]))
