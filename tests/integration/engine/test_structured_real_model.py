"""SmolLM2 held to random schemas and expressions at temperature 1."""

import json
import re

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.inference.engine.limits import EngineLimits
from services.inference.engine.request import SequenceRequest
from services.inference.engine.sampling.params import SamplingParams
from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.gateway import FinishReason
from shared.contracts.replica import Grammar
from shared.text.tokenizer import Tokenizer
from tests.support.factories.engines import EngineUnderTest
from tests.support.factories.schemas import schemas

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROMPT = "<|im_start|>user\nAnswer with some JSON about a person.<|im_end|>\n<|im_start|>assistant\n"
PATTERNS = [
    r"[A-Z][a-z]{2,8}",
    r"(red|blue)(, (red|blue)){0,2}",
    r"\d{4}-\d{2}-\d{2}",
    r"\+?[0-9 ]{5,12}",
]


@pytest.fixture(scope="module")
def model(real_model):
    tokenizer = Tokenizer.from_file(real_model.folder / "tokenizer.json")
    spec = real_model.spec
    tokens = grammar_tokenizer(tokenizer, vocab_size=spec.vocab_size, eos_token_ids=spec.eos_token_ids)
    limits = EngineLimits(step_tokens=128, prefill_chunk=64)
    with EngineUnderTest(real_model.open(slots=8, max_len=512), limits) as engine:
        yield engine, tokenizer, tokens, spec


class Prompter:
    def __init__(self, model):
        self.engine, self.tokenizer, self.tokens, self.spec = model
        self.count = 0

    def ask(self, *grammars, seed=0, max_tokens=160):
        """(text, finish) of one answer per grammar, None is free, all in one batch."""
        requests = []
        for index, grammar in enumerate(grammars):
            self.count += 1
            compiled = grammar and CompiledGrammar(self.tokens, grammar_source(grammar))
            requests.append(
                SequenceRequest(
                    f"r{id(self)}-{self.count}",
                    tuple(self.tokenizer.encode(PROMPT)),
                    sampling=SamplingParams(
                        max_tokens if grammar else 16, 1.0, seed=seed + index, eos_token_ids=self.spec.eos_token_ids
                    ),
                    constraint=compiled and compiled.start(),
                )
            )
        got = self.engine.run(*requests)
        return [
            (
                b"".join(map(self.tokenizer.token_bytes, got[each.request_id])).decode(),
                self.engine.finish(each.request_id).finish,
            )
            for each in requests
        ]


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(schemas(), min_size=6, max_size=6), st.integers(0, 1 << 30))
def test_answers_validate_against_their_schemas(model, some, seed):
    asked = [Grammar(kind="json_schema", value=json.dumps(schema)) for schema in some]
    answers = Prompter(model).ask(*asked, seed=seed)
    for schema, (text, finish) in zip(some, answers, strict=True):
        if finish is FinishReason.STOP:
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        else:
            assert finish is FinishReason.LENGTH
    assert any(finish is FinishReason.STOP for _, finish in answers)


def test_expressions_and_choices_match_in_one_batch_with_free_answers(model):
    asked = [Grammar(kind="regex", value=pattern) for pattern in PATTERNS]
    asked.append(Grammar(kind="choice", value='["yes", "no"]'))
    prompter = Prompter(model)
    together = prompter.ask(*asked, None, seed=7)
    for pattern, (text, finish) in zip(PATTERNS, together, strict=False):
        assert re.fullmatch(pattern, text)
        assert finish is FinishReason.STOP
    assert together[len(PATTERNS)][0] in {"yes", "no"}
    alone = [prompter.ask(each, seed=7 + index)[0] for index, each in enumerate([*asked, None])]
    assert alone == together
