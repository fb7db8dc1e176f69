"""Tries a model's chat template before the model is imported, as a replica would: in a worker, within its limits."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import structlog

from shared.errors import InvalidInput, UnsupportedFormat
from shared.text.template import ADVICE
from shared.text.template_process import TemplateProcess
from shared.text.tool_form import takes_tools

_USER = {"role": "user", "content": "Hello"}
_CONVERSATIONS = (
    [_USER],
    [{"role": "system", "content": "You are helpful."}, _USER],
    [_USER, {"role": "assistant", "content": "Hi"}, _USER],
)
"""Templates may refuse some forms (Gemma's knew no system message). One that renders none of these is of no use."""
_TOOL: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string", "description": "Its name."}}},
    },
}

_log = structlog.get_logger("llmos.convert")


def check_chat_template(source: str, special_tokens: Mapping[str, str]) -> None:
    """Render short conversations; one with a tool that fails is only logged.

    Raises:
        UnsupportedFormat: The template does not parse, or renders no conversation.
    """
    problem, tool_problem = _problems(source, tuple(sorted(special_tokens.items())))
    if problem is not None:
        raise UnsupportedFormat(
            f"{problem}; correct the source's chat template (chat_template.jinja, or 'chat_template' in"
            " tokenizer_config.json; 'tokenizer.chat_template' in a GGUF), or remove it to import the model without"
            " one",
            param="source",
        )
    if tool_problem is not None:
        _log.warning("template.rejects_tools", error=tool_problem, consequence="requests with tools will fail")


@lru_cache(maxsize=64)
def _problems(source: str, special_tokens: tuple[tuple[str, str], ...]) -> tuple[str | None, str | None]:
    # In a thread of its own: the caller may run in an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _tried(source, dict(special_tokens))).result()


async def _tried(source: str, special_tokens: dict[str, str]) -> tuple[str | None, str | None]:
    """Why no conversation renders, and why one with a tool does not; None where it does."""
    async with TemplateProcess(source, special_tokens).running() as process:
        problems = [await _problem(process, conversation) for conversation in _CONVERSATIONS]
        usable = next((number for number, problem in enumerate(problems) if problem is None), None)
        if usable is None:
            return problems[0], None
        return None, await _problem(process, _CONVERSATIONS[usable], _TOOL) if takes_tools(source) else None


async def _problem(process: TemplateProcess, messages: list[dict[str, str]], *tools: dict[str, object]) -> str | None:
    try:
        await process.render(messages, tools)
    except InvalidInput as error:
        return " ".join(error.message.removesuffix(f"; {ADVICE}").split())
    return None
