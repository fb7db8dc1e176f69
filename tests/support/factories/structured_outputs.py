"""Structured output for tests: the real compiler, for any tokenizer."""

from contextlib import AsyncExitStack

from services.inference.text.grammar.cache import GrammarCache
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.tokenizer import grammar_tokenizer
from services.inference.text.structured_output import StructuredOutputBuilder
from shared.contracts.manifest import DecoderSpec
from shared.text.tokenizer import Tokenizer


async def structured_output_builder(
    stack: AsyncExitStack, tokenizer: Tokenizer, spec: DecoderSpec, template: str | None = None
) -> StructuredOutputBuilder:
    """As a replica makes them; stopped by `stack`."""
    process = await stack.enter_async_context(GrammarProcess().running())
    grammars = GrammarCache(
        lambda: grammar_tokenizer(tokenizer, vocab_size=spec.vocab_size, eos_token_ids=spec.eos_token_ids), process
    )
    return StructuredOutputBuilder(grammars, tokenizer, template)
