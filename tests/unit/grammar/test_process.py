"""Hostile grammars are refused within limits, and cost the next request nothing but a new process."""

import asyncio
import json
import os
import signal

import psutil
import pytest

from services.inference.text.grammar import cache as grammar_cache
from services.inference.text.grammar.cache import MAX_WAITING, GrammarCache
from services.inference.text.grammar.compiled import GrammarConstraint
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.replica import Grammar
from shared.errors import Draining, InvalidInput, Overloaded
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())


def make_tokenizer():
    return grammar_tokenizer(TOKENIZER, vocab_size=TOKENIZER.vocab_size, eos_token_ids=(2,))


def source(kind, value, param="guided_x"):
    value = value if isinstance(value, str) else json.dumps(value)
    return grammar_source(Grammar(kind=kind, value=value, param=param))


@pytest.fixture
async def process():
    async with GrammarProcess().running() as process:
        yield process


@pytest.fixture
def grammars(process, monkeypatch):
    # GrammarCache are compiled at the lowest priority: on a busy machine a second of processor time can take long.
    monkeypatch.setattr(grammar_cache, "WALL_LIMIT_S", 60.0)
    return GrammarCache(make_tokenizer, process)


def exponential(parts):
    """Each of the parts doubles what the parts before allow."""
    choices = [[{"properties": {f"{side}{part}": {"type": "string"}}} for side in "ab"] for part in range(parts)]
    return {"allOf": [{"anyOf": choice} for choice in choices]}


HOSTILE = {
    "takes 20 s to compile": ("json_schema", {"type": "integer", "multipleOf": 1000003}),
    "exponential": ("json_schema", exponential(20)),
    "too many items": ("json_schema", {"allOf": [{"properties": {f"p{i}": {"type": "string"}}} for i in range(500)]}),
    "intersections": (
        "json_schema",
        {"type": "string", "allOf": [{"pattern": f"^(a|b)*a(a|b){{{i}}}$"} for i in range(2, 16)]},
    ),
    "a deep expression": ("regex", "(" * 3000 + "a" + ")" * 3000),
    "a deep grammar": ("lark", "start: " + "(" * 3000 + '"a"' + ")" * 3000),
    "remote": ("json_schema", {"$ref": "http://127.0.0.1/schema.json"}),
    "nowhere": ("json_schema", {"$ref": "#/$defs/none"}),
    "nothing satisfies it": ("json_schema", False),
    "not enforceable": ("json_schema", {"type": "array", "uniqueItems": True}),
    "look-around": ("regex", "(?=a)b"),
    "not closed": ("regex", "(a"),
    "an unknown rule": ("lark", "start: other"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_grammar_is_refused_naming_the_field_and_the_next_one_compiles(grammars, name):
    with pytest.raises(InvalidInput, match=r"^guided_x") as error:
        await grammars.compile(source(*HOSTILE[name]))
    assert error.value.param == "guided_x"
    assert len(error.value.message) < 700
    assert isinstance((await grammars.compile(source("regex", "a+"))).start(), GrammarConstraint)


async def test_a_keyword_that_can_not_be_enforced_is_named(grammars):
    with pytest.raises(InvalidInput, match="uniqueItems"):
        await grammars.compile(source("json_schema", {"items": {"type": "array", "uniqueItems": True}}))


@pytest.mark.parametrize(
    "pattern", ["(a{1000}){1000}", "((((a{20}){20}){20}){20}){20}", "a{100000}", "(.|\n)*a.{200}"]
)
async def test_counted_repetition_costs_no_step_time_and_no_memory(grammars, pattern):
    constraint = (await grammars.compile(source("regex", pattern))).start()
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        constraint.mask()  # would raise after its limit of processor time
        constraint.accept(TOKENIZER.encode("a")[0])
    assert psutil.Process().memory_info().rss - before < 32 << 20


async def test_a_rejection_is_cached_and_names_each_requests_own_field(grammars, process):
    schema = {"type": "integer", "multipleOf": 1000003}
    with pytest.raises(InvalidInput, match="processor time"):
        await grammars.compile(source("json_schema", schema))
    assert process._process is None, "it died of the first"
    with pytest.raises(InvalidInput, match=r"^response_format: it is too complex"):
        await grammars.compile(source("json_schema", schema, param="response_format"))
    assert process._process is None, "the second was not tried"


async def test_a_grammar_is_compiled_once_for_all_requests_that_wait(grammars):
    first, second = await asyncio.gather(*(grammars.compile(source("regex", "a+")) for _ in range(2)))
    assert first is second
    assert await grammars.compile(source("regex", "a+")) is first


async def test_a_worker_that_died_idle_is_replaced(grammars, process):
    await grammars.compile(source("regex", "a+"))
    os.kill(process._process.pid, signal.SIGKILL)
    await process._process.wait()
    await grammars.compile(source("regex", "b+"))


async def test_more_new_grammars_of_a_tenant_than_may_wait_are_turned_away(grammars):
    places = 1 + MAX_WAITING // 2  # one has the turn; half of the places are its tenant's
    tasks = [asyncio.create_task(grammars.compile(source("regex", f"a{{{n}}}"))) for n in range(places + 3)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in done[places:]] == [Overloaded] * 3
    assert {error.param for error in done[places:]} == {"guided_x"}
    assert not any(isinstance(each, Exception) for each in done[:places])


async def test_tenants_that_ask_for_the_same_grammar_get_the_same_object(grammars):
    tasks = [grammars.compile(source("regex", "a+"), tenant=tenant) for tenant in ("x", "y", "x")]
    assert len(set(map(id, await asyncio.gather(*tasks)))) == 1


async def test_a_cancelled_request_does_not_cancel_the_grammar_of_the_others(grammars):
    leaving = asyncio.create_task(grammars.compile(source("regex", "a+")))
    staying = asyncio.create_task(grammars.compile(source("regex", "a+")))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_the_worker_ends_with_its_owner_and_no_new_grammar_is_tried():
    async with GrammarProcess().running() as process:
        assert await process.check(source("regex", "a")) is None
        worker = process._process
    assert worker.returncode is not None
    with pytest.raises(Draining):
        await process.check(source("regex", "a"))
