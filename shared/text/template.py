"""Messages to the prompt that the model was trained on.

The template comes with the model, so it is untrusted: jinja2's immutable sandbox isolates it from the process,
and `template_worker` limits its time and memory. Conventions are Hugging Face's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import InvalidInput

MAX_PROMPT = 4 << 20
"""Characters that a rendered prompt may have: far above any context length."""
ADVICE = "use /v1/completions, or import the model again with another template"


class TemplateRejected(Exception):
    """The template called `raise_exception`: it refuses these messages."""


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja2.
        bos_token: Text of the token that begins a text, "" if the model has none.
        eos_token: Text of the token that ends an answer, "" if the model has none.

    Raises:
        InvalidInput: It does not compile.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {
            "raise_exception": _reject,
            "strftime_now": _strftime_now,
            "bos_token": bos_token,
            "eos_token": eos_token,
        }
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError) as error:
            raise InvalidInput(f"the model's chat template does not compile: {error}; {ADVICE}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> str:
        """The prompt, by default up to where the assistant's answer begins.

        Args:
            messages: The conversation.
            tools: In OpenAI's form.
            add_generation_prompt: Whether the beginning of an assistant's message follows the last message.
            continue_final_message: Whether the prompt ends with the text of the last message, so that an answer
                continues it; without `add_generation_prompt`.

        Raises `InvalidInput` when the template refuses the messages, fails, or makes a prompt above `MAX_PROMPT`, and
        where the last message can't be continued.
        """
        try:
            prompt = _joined(
                self._template.generate(
                    messages=messages, tools=tools or None, add_generation_prompt=add_generation_prompt
                )
            )
            return _up_to(str(messages[-1]["content"]), prompt) if continue_final_message else prompt
        except TemplateRejected as error:
            raise InvalidInput(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except MemoryError as error:
            raise InvalidInput(f"the model's chat template takes too much memory; {ADVICE}") from error
        except InvalidInput:
            raise
        except Exception as error:  # a template can raise whatever the values it touches raise
            raise InvalidInput(f"the model's chat template fails on these messages: {error}; {ADVICE}") from error


def _joined(pieces: Iterable[str]) -> str:
    parts: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_PROMPT:
            raise InvalidInput(
                f"the messages make a prompt of more than {MAX_PROMPT} characters; shorten them", param="messages"
            )
        parts.append(piece)
    return "".join(parts)


def _up_to(last: str, prompt: str) -> str:
    """A prompt without what follows the last message's text, of which templates trim the ends."""
    text = last.strip()
    start = prompt.rfind(text) if text else -1
    if start < 0:
        raise InvalidInput(
            "continue_final_message needs a last message with a text that the chat template shows", param="messages"
        )
    spaced = last.lstrip()
    return prompt[: start + len(spaced if prompt.startswith(spaced, start) else text)]


def _reject(message: str) -> NoReturn:
    raise TemplateRejected(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """Without jinja2's HTML escapes: prompts are not HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}` marks the trained part of a text; for a prompt it is its content."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
