"""What a tenant asks for before its requests wait in the engine's queue is felt by that tenant alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from shared.contracts.replica import ChatMessage, Generate, Grammar
from shared.contracts.tokenization import Tokenize
from shared.errors import Conflict, Overloaded
from shared.text.tokenizer import Tokenizer
from tests.support.fakes.memory_replica import memory_replica, request
from tests.support.models.small_tokenizers import byte_level

TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
LONG = "A sentence of nothing. " * 1300
"""30 KB."""


@pytest.fixture
async def replica():
    async with AsyncExitStack() as stack:
        yield await memory_replica(stack, Tokenizer(byte_level()), template=TEMPLATE, max_len=1 << 15, slots=2)


def chat(request_id: str, tenant: str, content: str = "Hi", grammar: Grammar | None = None) -> Generate:
    return request(
        request_id,
        messages=(ChatMessage(role="user", content=content),),
        tenant=tenant,
        grammar=grammar,
        sampling={"max_tokens": 1, "ignore_eos": False},
    )


def hard(number: int) -> Grammar:
    """Takes more than the processor time that a grammar may take."""
    schema = {"type": "integer", "multipleOf": 1000003 + number}
    return Grammar(kind="json_schema", value=json.dumps(schema), param="response_format")


@asynccontextmanager
async def flood(requests: Iterable[Awaitable[object]]) -> AsyncIterator[list[asyncio.Future[object]]]:
    """Begin all, and leave them behind at the end."""
    tasks = [asyncio.ensure_future(each) for each in requests]
    await asyncio.sleep(0)
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def accepted(tasks: list[asyncio.Future[object]]) -> int:
    return sum(task.done() and task.exception() is None for task in tasks)


async def test_a_plain_chat_waits_for_one_prompt_of_a_flood(replica):
    async with flood(replica.generate(chat(f"f{n}", "flood", LONG)) for n in range(128)) as tasks:
        await replica.generate(chat("mine", "quiet"))
        assert accepted(tasks) <= 2


async def test_tokenising_for_one_tenant_waits_for_one_text_of_another(replica):
    tokenize = replica.tokenization.tokenize
    async with flood(tokenize(Tokenize(prompt=LONG, tenant="flood")) for _ in range(64)) as tasks:
        assert (await tokenize(Tokenize(prompt="Hi", tenant="quiet"))).token_ids
        assert accepted(tasks) <= 2


async def test_hard_grammars_of_one_tenant_delay_no_plain_chat_of_its_own_or_of_others(replica):
    async with flood(replica.generate(chat(f"f{n}", "flood", grammar=hard(n))) for n in range(48)) as tasks:
        for tenant in ("quiet", "flood"):
            await replica.generate(chat(f"plain-{tenant}", tenant))
            await replica.last(f"plain-{tenant}")
        assert not all(task.done() for task in tasks), "the flood was over before it could do harm"
        refused = [error for task in tasks if task.done() and isinstance(error := task.exception(), Overloaded)]
        assert refused, "a tenant has half of the places at most"
        assert {error.param for error in refused} == {"response_format"}, "no request without a grammar is refused"


async def test_anothers_grammar_is_compiled_after_one_of_the_flood(replica):
    easy = Grammar(kind="regex", value="(yes|no)", param="guided_regex")
    async with flood(replica.generate(chat(f"f{n}", "flood", grammar=hard(n))) for n in range(8)) as tasks:
        await replica.generate(chat("mine", "quiet", grammar=easy))
        assert sum(task.done() for task in tasks) <= 2


async def test_a_request_that_its_sender_cancelled_while_it_waited_is_not_prepared(replica):
    async with flood(replica.generate(chat(f"f{n}", "flood", LONG)) for n in range(20)) as tasks:
        for n in range(1, 20):
            replica.generate.cancel(f"f{n}")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done[1:]] == [Conflict] * 19
