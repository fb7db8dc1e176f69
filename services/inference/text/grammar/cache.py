"""The compiled grammars of a replica."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable

import structlog
from llguidance import LLTokenizer

from services.inference.text.grammar.compiled import CompiledGrammar
from services.inference.text.grammar.limits import WALL_LIMIT_S
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.refusal import refused
from services.inference.text.grammar.source import GrammarSource
from shared.errors import Overloaded

log = structlog.get_logger("llmos.replica")

CACHED = 64
"""Grammars that are kept, least recently used first to go; those that were refused too."""
WAITING = 16
"""New grammars that may wait to be compiled, one after the other."""


class Grammars:
    """Compiles grammars off the event loop, each once.

    Args:
        make_tokenizer: Makes the version's; called once, in a thread, when the first grammar comes.
        process: Tries every new grammar.
    """

    def __init__(self, make_tokenizer: Callable[[], LLTokenizer], process: GrammarProcess) -> None:
        self._make_tokenizer = make_tokenizer
        self._process = process
        self._tokenizer: asyncio.Future[LLTokenizer] | None = None
        self._known: OrderedDict[bytes, CompiledGrammar | str] = OrderedDict()
        self._coming: dict[bytes, asyncio.Task[CompiledGrammar | str]] = {}

    async def compile(self, source: GrammarSource) -> CompiledGrammar:
        """The compiled grammar.

        Raises:
            InvalidInput: It does not compile, or not within the limits; the field is named.
            Overloaded: Too many new grammars wait, or it had to wait too long.
        """
        key = hashlib.sha256(source.lark.encode()).digest()
        found = self._known.get(key)
        if found is None:
            found = await self._wait_for(key, source)
        else:
            self._known.move_to_end(key)
        if isinstance(found, str):
            raise refused(source, found)
        return found

    async def _wait_for(self, key: bytes, source: GrammarSource) -> CompiledGrammar | str:
        task = self._coming.get(key)
        if task is None:
            if len(self._coming) >= WAITING:
                raise Overloaded(f"{WAITING} new grammars wait to be compiled; try again later", retry_after=1.0)
            task = self._coming[key] = asyncio.create_task(self._compile(key, source))
            task.add_done_callback(lambda done: self._settle(key, done))
        try:
            async with asyncio.timeout(WALL_LIMIT_S):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise Overloaded(
                f"the grammar was not compiled within {WALL_LIMIT_S:g} s; try again later", retry_after=2.0
            ) from error

    def _settle(self, key: bytes, done: "asyncio.Task[CompiledGrammar | str]") -> None:
        del self._coming[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("grammar_failed", exc_info=error)  # those that waited may all have left

    async def _compile(self, key: bytes, source: GrammarSource) -> CompiledGrammar | str:
        if self._tokenizer is None:
            self._tokenizer = asyncio.ensure_future(asyncio.to_thread(self._make_tokenizer))
        reason = await self._process.check(source)
        tokenizer = await self._tokenizer
        compiled = await asyncio.to_thread(CompiledGrammar, tokenizer, source) if reason is None else None
        found = compiled or reason or "it does not compile"
        self._known[key] = found
        while len(self._known) > CACHED:
            self._known.popitem(last=False)
        return found
