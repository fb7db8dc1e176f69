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
    """Render short conversations, with a tool and without; where one kind fails, that is logged.

    Raises:
        UnsupportedFormat: The template does not parse, or renders no conversation.
    """
    plain, with_tool = _problems(source, tuple(sorted(special_tokens.items())))
    if plain is None and with_tool is None:
        return
    if plain is None:
        _log.warning("template.rejects_tools", error=with_tool, consequence="requests with tools will fail")
    elif with_tool is None and takes_tools(source):
        _log.warning("template.requires_tools", error=plain, consequence="requests without tools will fail")
    else:
        raise UnsupportedFormat(
            f"{plain}; correct the source's chat template (chat_template.jinja, or 'chat_template' in"
            " tokenizer_config.json; 'tokenizer.chat_template' in a GGUF), or remove it to import the model without"
            " one",
            param="source",
        )


@lru_cache(maxsize=64)
def _problems(source: str, special_tokens: tuple[tuple[str, str], ...]) -> tuple[str | None, str | None]:
    # In a thread of its own: the caller may run in an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _tried(source, dict(special_tokens))).result()


async def _tried(source: str, special_tokens: dict[str, str]) -> tuple[str | None, str | None]:
    """Why no conversation renders, without tools and with one; None where one does."""
    async with TemplateProcess(source, special_tokens).running() as process:
        plain = await _first_problem(process)
        return plain, await _first_problem(process, _TOOL) if takes_tools(source) else None


async def _first_problem(process: TemplateProcess, *tools: dict[str, object]) -> str | None:
    """None if any conversation renders."""
    problems = []
    for conversation in _CONVERSATIONS:
        problem = await _problem(process, conversation, *tools)
        if problem is None:
            return None
        problems.append(problem)
    return problems[0]


async def _problem(process: TemplateProcess, messages: list[dict[str, str]], *tools: dict[str, object]) -> str | None:
    try:
        await process.render(messages, tools)
    except InvalidInput as error:
        return " ".join(error.message.removesuffix(f"; {ADVICE}").split())
    return None
