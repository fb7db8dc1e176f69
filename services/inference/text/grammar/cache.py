"""The compiled grammars of a replica."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import structlog
from llguidance import LLTokenizer

from services.inference.text.grammar.compile_error import compile_error
from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.limits import WALL_LIMIT_S
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import GrammarSource
from shared.errors import Overloaded

_log = structlog.get_logger("llmos.replica")

MAX_CACHED = 64
"""Grammars in the cache, rejected ones included; the least recently used one is evicted."""
MAX_COMPILING = 16
"""New grammars that may wait; they are compiled one after the other."""


class GrammarCache:
    """Compiles grammars off the event loop, each once.

    Args:
        make_tokenizer: Makes the version's; called once, in a thread, for the first grammar.
        process: Tries every new grammar.
    """

    def __init__(self, make_tokenizer: Callable[[], LLTokenizer], process: GrammarProcess) -> None:
        self._make_tokenizer = make_tokenizer
        self._process = process
        self._tokenizer: asyncio.Future[LLTokenizer] | None = None
        self._compiled: OrderedDict[bytes, CompiledGrammar | str] = OrderedDict()
        self._compiling: dict[bytes, asyncio.Task[CompiledGrammar | str]] = {}

    async def compile(self, source: GrammarSource, scope: str = "") -> CompiledGrammar:
        """The compiled grammar, shared by those who ask with the same `scope`: its time says that one had it before.

        Raises:
            InvalidInput: It does not compile, or not within the limits; the field is named.
            Overloaded: Too many new grammars wait, or it had to wait too long.
        """
        key = hashlib.sha256(f"{len(scope)}:{scope}{source.lark}".encode()).digest()
        result = self._compiled.get(key)
        if result is None:
            result = await self._shared_compile(key, source)
        else:
            self._compiled.move_to_end(key)
        if isinstance(result, str):
            raise compile_error(source, result)
        return result

    async def _shared_compile(self, key: bytes, source: GrammarSource) -> CompiledGrammar | str:
        task = self._compiling.get(key)
        if task is None:
            if len(self._compiling) >= MAX_COMPILING:
                raise Overloaded(
                    f"{MAX_COMPILING} new grammars wait to be compiled; try again later", retry_after=1.0
                )
            task = self._compiling[key] = asyncio.create_task(self._compile(key, source))
            task.add_done_callback(lambda done: self._on_compiled(key, done))
        try:
            async with asyncio.timeout(WALL_LIMIT_S):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise Overloaded(
                f"the grammar was not compiled within {WALL_LIMIT_S:g} s; try again later", retry_after=2.0
            ) from error

    def _on_compiled(self, key: bytes, done: "asyncio.Task[CompiledGrammar | str]") -> None:
        del self._compiling[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            _log.error("grammar.compile_failed", exc_info=error)  # every request that waited may be gone

    async def _compile(self, key: bytes, source: GrammarSource) -> CompiledGrammar | str:
        if self._tokenizer is None:
            self._tokenizer = asyncio.ensure_future(asyncio.to_thread(self._make_tokenizer))
        reason = await self._process.check(source)
        if reason is not None and source.fallback is not None:
            fallback = replace(source, lark=source.fallback, fallback=None)
            if await self._process.check(fallback) is None:
                source, reason = fallback, None
        tokenizer = await self._tokenizer
        compiled = await asyncio.to_thread(CompiledGrammar, tokenizer, source) if reason is None else None
        result = compiled or reason or "it does not compile"
        self._compiled[key] = result
        while len(self._compiled) > MAX_CACHED:
            self._compiled.popitem(last=False)
        return result
