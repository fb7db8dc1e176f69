"""What clients and peers send: taken, or refused by an error of ours."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import grammar_source
from shared.bus import rpc
from shared.contracts.replica import Grammar
from shared.errors import ErrorPayload, LlmosError, from_payload
from shared.text.template_process import TemplateProcess
from shared.text.tokenizer import Tokenizer
from tests.security.fuzz.mutations import Change, changes, damaged, fuzzed
from tests.support.factories.contracts import CONTRACTS
from tests.support.models.chat_templates import LLAMA3, MISTRAL, QWEN2
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi", "tool_calls": []}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "allOf": [{"properties": {"tags": {"type": "array", "items": {"enum": ["a", "b"]}}}}],
}


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@fuzzed
@given(done=changes)
def test_messages_of_the_bus(contract: type, done: list[Change]) -> None:
    message = damaged(contract.EXAMPLE.encode(), done)
    try:
        parsed = rpc.parse(contract, message)
    except LlmosError:
        return
    assert contract.decode(parsed.encode()) == parsed


@fuzzed
@given(done=changes)
def test_errors_of_a_peer(done: list[Change]) -> None:
    payload = ErrorPayload(code="overloaded", message="full", retry_after=1.0)
    message = damaged(payload.model_dump_json().encode(), done)
    try:
        error = from_payload(ErrorPayload.model_validate_json(message))
    except ValueError:
        return
    assert isinstance(error, LlmosError)


@pytest.mark.parametrize("template", [LLAMA3, MISTRAL, QWEN2], ids=["llama3", "mistral", "qwen2"])
@fuzzed
@given(done=changes)
def test_chat_templates(template: str, done: list[Change]) -> None:
    source = damaged(template.encode(), done).decode("utf-8", "replace")

    async def render() -> None:
        async with TemplateProcess(source, cpu_limit_s=0.5).running() as process:
            try:
                assert isinstance(await process.render(MESSAGES), str)
            except LlmosError as error:
                assert error.message  # noqa: PT017

    asyncio.run(render())


@fuzzed
@given(done=changes)
def test_schemas(done: list[Change]) -> None:
    value = damaged(json.dumps(SCHEMA).encode(), done).decode("utf-8", "replace")

    async def compile_() -> None:
        async with GrammarProcess().running() as process:
            try:
                await process.check(grammar_source(Grammar(kind="json_schema", value=value, param="x")))
            except LlmosError as error:
                assert error.message  # noqa: PT017

    asyncio.run(compile_())


@fuzzed
@given(st.text())
def test_any_text_is_tokenised_and_comes_back(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 <= token < TOKENIZER.vocab_size for token in ids)
