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
from services.inference.text.grammar.limits import CPU_LIMIT_S, TURN_S, WALL_LIMIT_S
from services.inference.text.grammar.process import GrammarProcess
from services.inference.text.grammar.source import GrammarSource
from services.inference.turns import Turns
from services.inference.turns.turns import Charge, charge_nobody
from shared.errors import Overloaded

_log = structlog.get_logger("llmos.replica")

MAX_CACHED = 64
"""Grammars in the cache, rejected ones included; the least recently used one is evicted."""
MAX_WAITING = 32
"""New grammars that may wait for their turn; one tenant has half of the places at most."""


class GrammarCache:
    """Compiles grammars off the event loop, each once.

    Args:
        make_tokenizer: Makes the version's; called once, in a thread, for the first grammar.
        process: Tries every new grammar.
        charge: Told the seconds of work for each tenant. What low priority adds is not counted.
    """

    def __init__(
        self, make_tokenizer: Callable[[], LLTokenizer], process: GrammarProcess, *, charge: Charge = charge_nobody
    ) -> None:
        self._make_tokenizer = make_tokenizer
        self._process = process
        self._tokenizer: asyncio.Future[LLTokenizer] | None = None
        self._compiled: OrderedDict[bytes, CompiledGrammar | str] = OrderedDict()
        self._compiling: dict[tuple[str, bytes], asyncio.Task[CompiledGrammar | str]] = {}
        self._turns = Turns("new grammars", places=MAX_WAITING, charge=charge, most_s=CPU_LIMIT_S)

    async def compile(self, source: GrammarSource, *, tenant: str = "", scope: str = "") -> CompiledGrammar:
        """The compiled grammar. A new one waits for the turn of `tenant`.

        It is shared by those who ask with the same `scope`: its time says that one had it before.

        Raises:
            InvalidInput: It does not compile, or not within the limits; the field is named.
            Overloaded: Too many new grammars of the tenant wait, or it had to wait too long. The field is named,
                because requests without it are not refused.
        """
        key = hashlib.sha256(f"{len(scope)}:{scope}{source.lark}".encode()).digest()
        result = self._compiled.get(key)
        if result is None:
            result = await self._shared_compile(key, source, tenant)
        else:
            self._compiled.move_to_end(key)
        if isinstance(result, str):
            raise compile_error(source, result)
        return result

    async def _shared_compile(self, key: bytes, source: GrammarSource, tenant: str) -> CompiledGrammar | str:
        task = self._compiling.get((tenant, key))
        if task is None:
            task = self._compiling[tenant, key] = asyncio.create_task(self._compile_in_turn(key, source, tenant))
            task.add_done_callback(lambda done: self._on_compiled(tenant, key, done))
        try:
            async with asyncio.timeout(WALL_LIMIT_S):
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise Overloaded(
                f"the grammar was not compiled within {WALL_LIMIT_S:g} s",
                param=source.param,
                retry_after=2.0,
            ) from error

    def _on_compiled(self, tenant: str, key: bytes, done: "asyncio.Task[CompiledGrammar | str]") -> None:
        del self._compiling[tenant, key]
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, Overloaded):
            _log.error("grammar.compile_failed", exc_info=error)  # every request that waited may be gone

    async def _compile_in_turn(self, key: bytes, source: GrammarSource, tenant: str) -> CompiledGrammar | str:
        async with self._turns.turn(tenant, param=source.param):
            # Another tenant may have had the same grammar meanwhile.
            return self._compiled.get(key) or await self._compile_within_turn(key, source, tenant)

    async def _compile_within_turn(self, key: bytes, source: GrammarSource, tenant: str) -> CompiledGrammar | str:
        """Raises `Overloaded` when it takes long and another tenant waits."""
        task = asyncio.create_task(self._compile(key, source))
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=TURN_S)
                if not task.done() and self._turns.others_wait(tenant):
                    raise Overloaded(
                        "the grammar takes long to compile, and others wait",
                        param=source.param,
                        retry_after=2.0,
                    )
            return task.result()
        finally:
            task.cancel()

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
