"""Constrained and free sequences in one batch: each as alone, and a grammar's failure is its sequence's alone."""

import json

import pytest

from services.inference.engine.request import SequenceRequest
from services.inference.engine.sampling.params import SamplingParams
from services.inference.engine.scripted_decoder import ScriptedDecoder
from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.gateway import FinishReason
from shared.contracts.replica import Grammar
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer
from tests.support.factories.engines import EngineUnderTest
from tests.support.models.small_tokenizers import byte_level

EOS = 2
TOKENIZER = Tokenizer(byte_level())
TOKENS = grammar_tokenizer(TOKENIZER, vocab_size=TOKENIZER.vocab_size, eos_token_ids=(EOS,))


def compiled(kind, value):
    return CompiledGrammar(TOKENS, grammar_source(Grammar(kind=kind, value=value)))


DIGITS = compiled("regex", r"[0-9]{12}")
YES_NO = compiled("choice", json.dumps(["yes", "no"]))
TOO_COMPLEX = compiled(
    "lark",
    'start: "x" ('
    + " | ".join(f"r{n}" for n in range(1500))
    + ")\n"
    + "\n".join(f'r{n}: "a" /b{{{n}}}c/' for n in range(1500)),
)


def request(request_id, grammar=None, *, seed=0, resumed=(), max_tokens=20, temperature=1.0, logprobs=None):
    return SequenceRequest(
        request_id,
        tuple(TOKENIZER.encode(f"tell me {request_id}")),
        resumed,
        sampling=SamplingParams(
            max_tokens, temperature, seed=seed, eos_token_ids=(EOS,), ignore_eos=grammar is None, logprobs=logprobs
        ),
        constraint=None if grammar is None else grammar.start(resumed),
    )


def decoder(slots=8):
    return ScriptedDecoder(slots=slots, max_len=64, vocab_size=TOKENIZER.vocab_size)


def text(tokens):
    return b"".join(map(TOKENIZER.token_bytes, tokens)).decode(errors="replace")


def batch():
    grammars = [DIGITS, None, YES_NO, None, DIGITS, YES_NO]
    return [request(f"r{n}", grammar, seed=n) for n, grammar in enumerate(grammars)]


def test_constrained_and_free_sequences_together_equal_each_alone():
    with EngineUnderTest(decoder()) as engine:
        together = engine.run(*batch())
    for each in batch():
        with EngineUnderTest(decoder()) as engine:
            assert engine.run(each)[each.request_id] == together[each.request_id]
    assert text(together["r0"]).isdecimal()
    assert text(together["r0"]) != text(together["r4"])
    assert {text(together["r2"]), text(together["r5"])} <= {"yes", "no"}
    assert len(together["r1"]) == 20


def test_a_complete_answer_stops_and_one_cut_by_max_tokens_does_not():
    with EngineUnderTest(decoder()) as engine:
        engine.run(request("whole", YES_NO), request("cut", DIGITS, max_tokens=2))
        assert engine.finish("whole").finish is FinishReason.STOP
        assert engine.finish("cut").finish is FinishReason.LENGTH


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_resumed_answer_goes_on_as_it_would_have(cut):
    with EngineUnderTest(decoder()) as engine:
        whole = engine.run(request("r", DIGITS, seed=5))["r"]
    with EngineUnderTest(decoder()) as engine:
        rest = engine.run(request("r", DIGITS, seed=5, resumed=whole[:cut]))["r"]
    assert whole[:cut] + rest == whole


def test_a_resumed_answer_that_was_complete_stops_at_once():
    tokens = TOKENIZER.encode("yes")
    with EngineUnderTest(decoder()) as engine:
        assert engine.run(request("r", YES_NO, resumed=tokens))["r"] == ()
        assert engine.finish("r").finish is FinishReason.STOP


def test_a_grammar_that_fails_on_the_way_ends_its_sequence_alone():
    with EngineUnderTest(decoder()) as engine:
        got = engine.run(request("bad", TOO_COMPLEX), request("good", DIGITS, seed=3), request("free", seed=4))
        last = engine.finish("bad")
        assert last.finish is FinishReason.ERROR
        assert isinstance(last.error, InvalidInput)
        assert text(got["bad"]) == "x"
        assert engine.finish("good").finish is FinishReason.STOP
        assert len(got["free"]) == 20
        assert not engine.fatal


def test_greedy_and_scored_tokens_are_among_the_allowed():
    with EngineUnderTest(decoder()) as engine:
        got = engine.run(request("r", DIGITS, temperature=0.0, logprobs=2))["r"]
        assert text(got).isdecimal()
        scored = [score.token for update in engine.updates["r"] for score in update.scores]
    assert scored == list(got)
