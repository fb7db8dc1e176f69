"""What one tenant can learn about another from what a replica has computed earlier."""

from contextlib import AsyncExitStack

import pytest

from services.inference.replica.generate.cache_scope import cache_scope
from services.inference.text.grammar.cache import GrammarCache
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import grammar_source
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from shared.contracts.replica import Generate, Grammar
from shared.contracts.scheduler import ReplicaState
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level

SECRET = tuple(3 + (7 * index) % 90 for index in range(200))
SAMPLING = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 2}


async def cached(client, replica, tenant: str, prompt=SECRET, **fields) -> int:
    answer = await client.ask(replica.id, prompt_token_ids=prompt, sampling=SAMPLING, tenant=tenant, **fields)
    return answer.last.usage.cached_tokens


@pytest.mark.timeout(180)
async def test_no_guess_at_another_tenants_prompt_is_confirmed(start_replica, client) -> None:
    async with start_replica(max_len=256, prefix_cache=1 << 20) as replica:
        await replica.until(ReplicaState.READY)
        assert await cached(client, replica, "victim") == 0
        assert await cached(client, replica, "victim") == 192
        assert await cached(client, replica, "attacker") == 0
        # nor by a salt that names the victim, as the replica writes it
        for salt in ("victim", "6:victim", "\0victim"):
            assert await cached(client, replica, "", cache_salt=salt) == 0
        assert await cached(client, replica, "attacker") == 192, "its own prompt is cached"
        assert await cached(client, replica, "attacker", cache_salt="customer") == 0
        assert await cached(client, replica, "attacker", cache_salt="customer") == 192


@pytest.mark.timeout(180)
async def test_an_admin_may_let_the_tenants_of_a_deployment_share(start_replica, client) -> None:
    async with start_replica(max_len=256, prefix_cache=1 << 20, share_cache=True) as replica:
        await replica.until(ReplicaState.READY)
        assert await cached(client, replica, "one") == 0
        assert await cached(client, replica, "two") == 192
        assert await cached(client, replica, "two", cache_salt="apart") == 0


def test_tenants_and_salts_are_not_confused() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("1:a", "bc"), ("", "1:abc"), ("1", ":abc")]
    asked = [Generate(request_id="r", gateway_id="g", prompt="p", tenant=t, cache_salt=s) for t, s in pairs]
    assert len({cache_scope(each, shared=False) for each in asked}) == len(pairs)


async def test_a_grammar_is_compiled_for_each_tenant() -> None:
    tokenizer = Tokenizer(byte_level())
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(GrammarProcess().running())
        grammars = GrammarCache(
            lambda: grammar_tokenizer(tokenizer, vocab_size=tokenizer.vocab_size, eos_token_ids=(2,)), process
        )
        source = grammar_source(Grammar(kind="regex", value="[a-z]{3}secret"))
        mine = await grammars.compile(source, scope="1:a")
        assert await grammars.compile(source, scope="1:a") is mine
        assert await grammars.compile(source, scope="1:b") is not mine
