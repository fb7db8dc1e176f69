"""Structured output: the constraint on an answer's tokens, and the parser of its tool calls."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.inference.text.grammar.cache import GrammarCache
from services.inference.text.grammar.compiled import CompiledGrammar, GrammarConstraint
from services.inference.text.grammar.source import DEFAULT, GrammarSource, SchemaOptions, grammar_source
from services.inference.text.tools.call_id import random_id
from services.inference.text.tools.grammar import tools_grammar
from services.inference.text.tools.parser import ToolCallParser
from shared.contracts.replica import Generate
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import tool_form

_INLINE_TOKENS = 64
"""More resumed tokens are fed to the grammar in a thread: about 0.05 ms a token."""


@dataclass(frozen=True, slots=True)
class StructuredOutput:
    """The structure of one request's answer; empty for free text."""

    constraint: GrammarConstraint | None = None
    calls: ToolCallParser | None = None
    control_texts: Mapping[int, str] = field(default_factory=dict)
    """Texts of control tokens that `calls` reads."""


class StructuredOutputBuilder:
    """Builds the `StructuredOutput` of each request.

    Args:
        grammars: Compiled grammars.
        tokenizer: The version's.
        template: The version's chat template; defines how the model writes tool calls.
        options: How schemas are read.
    """

    def __init__(
        self,
        grammars: GrammarCache,
        tokenizer: Tokenizer,
        template: str | None,
        options: SchemaOptions = DEFAULT,
    ) -> None:
        self._grammars = grammars
        self._options = options
        self._form = tool_form(template)
        self._opening_id = tokenizer.control_id(self._form.opening) if self._form.opening else None
        self._control_texts = {} if self._opening_id is None else {self._opening_id: self._form.opening}

    async def build(self, request: Generate, scope: str = "") -> StructuredOutput:
        """The structure of the answer, advanced by the request's `resume_token_ids`.

        Compiled grammars are shared by requests of one `scope`.

        Raises `InvalidInput` (with the field), `PayloadTooLarge` or `Overloaded`.
        """
        source = self._source(request)
        if source is None:
            return StructuredOutput()
        if request.sampling.ignore_eos:
            raise InvalidInput(
                f"ignore_eos does not go with {source.param}: the answer ends where its grammar ends",
                param="ignore_eos",
            )
        compiled = await self._grammars.compile(source, tenant=request.tenant, scope=scope)
        constraint = await _start(compiled, request.resume_token_ids, source.param)
        if not _may_call(request):
            return StructuredOutput(constraint)
        return StructuredOutput(constraint, self._parser(request), self._control_texts)

    def _parser(self, request: Generate) -> ToolCallParser:
        if request.tool_choice.mode == "required":
            return ToolCallParser(self._form, random_id, text="never")
        return ToolCallParser(self._form, random_id, text="beside" if request.grammar is None else "instead")

    def _source(self, request: Generate) -> GrammarSource | None:
        if not _may_call(request):
            return None if request.grammar is None else grammar_source(request.grammar, self._options)
        if request.grammar is not None and request.grammar.kind not in {"json_object", "json_schema"}:
            raise InvalidInput(
                f"{request.grammar.param} does not go with tools that may be called: beside them, text can only be"
                " JSON; set tool_choice to 'none'",
                param=request.grammar.param,
            )
        return tools_grammar(
            request.tools,
            request.tool_choice,
            self._form,
            opening_id=self._opening_id,
            text=request.grammar,
            options=self._options,
        )


def _may_call(request: Generate) -> bool:
    return bool(request.tools) and request.tool_choice.mode != "none"


async def _start(compiled: CompiledGrammar, resumed: tuple[int, ...], param: str) -> GrammarConstraint:
    if len(resumed) <= _INLINE_TOKENS:
        return compiled.start(resumed, param=param)
    return await asyncio.to_thread(compiled.start, resumed, param=param)
