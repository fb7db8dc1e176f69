"""The replica's side of the template worker."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import structlog

from shared.errors import InvalidInput, from_payload
from shared.text.template import ADVICE
from shared.text.template_messages import CPU_LIMIT_S, LENGTH, Render, Rendered, Start, pack
from shared.text.worker_process import end_worker, start_worker

log = structlog.get_logger("llmos.replica")


class TemplateProcess:
    """Renders prompts in a worker process, one at a time; a worker that dies is replaced at the next call.

    Use as an async context manager.

    Args:
        source: The chat template, jinja2.
        bos_token: Text of the token that begins a text.
        eos_token: Text of the token that ends an answer.
        cpu_limit_s: Processor seconds that compiling, and each rendering, may take.
    """

    def __init__(
        self, source: str, *, bos_token: str = "", eos_token: str = "", cpu_limit_s: float = CPU_LIMIT_S
    ) -> None:
        self._start = Start(source=source, bos_token=bos_token, eos_token=eos_token, cpu_limit_s=cpu_limit_s)
        self._lock = asyncio.Lock()
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async with self._lock:
            await self._stop()

    async def render(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] = ()) -> str:
        """The prompt up to where the assistant's answer begins; `tools` in OpenAI's form.

        Raises `InvalidInput` when the template does not compile, refuses the messages or fails on them, and when it
        takes more than `cpu_limit_s` seconds or `MEMORY_LIMIT` bytes.
        """
        message = Render(messages=tuple(messages), tools=tuple(tools))
        async with self._lock:
            code = await self._try(message)
            if isinstance(code, int) and code != -signal.SIGPROF:
                code = await self._try(message)  # it may have died idle, or somebody else killed it
            if isinstance(code, str):
                return code
        raise InvalidInput(
            f"the model's chat template was stopped: it took more than {self._start.cpu_limit_s:g} s"
            f" or too much memory; {ADVICE}"
        )

    async def _try(self, message: Render) -> str | int:
        """The prompt, or the exit code of a worker that died of it."""
        try:
            if self._process is None:
                await self._begin()
            return await self._ask(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._stop()
            log.warning("template_worker_died", exit_code=code, cpu_limit_s=self._start.cpu_limit_s)
            return code
        except asyncio.CancelledError:
            await self._stop()  # its answer would be taken for the next one's
            raise

    async def _begin(self) -> None:
        self._process = await start_worker("shared.text.template_worker")
        try:
            await self._ask(self._start)
        except InvalidInput:
            await self._stop()
            raise

    async def _ask(self, message: Start | Render) -> str:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(pack(message))
        await self._process.stdin.drain()
        (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
        answer = Rendered.model_validate_json(await self._process.stdout.readexactly(length))
        if answer.error is not None:
            raise from_payload(answer.error)
        return answer.prompt

    async def _stop(self) -> int:
        """End the worker, if there is one; its exit code."""
        process, self._process = self._process, None
        return await end_worker(process)
