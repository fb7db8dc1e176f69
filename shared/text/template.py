"""Messages to the prompt that the model was trained on.

The template comes with the model, so it is untrusted: jinja2's immutable sandbox isolates it from the process,
and `template_worker` limits its time and memory. Conventions are Hugging Face's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import InvalidInput

MAX_PROMPT = 4 << 20
"""Characters that a rendered prompt may have: far above any context length."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Names that a template knows, as in the special tokens of a Hugging Face tokenizer."""
NO_VARIABLES: Mapping[str, Any] = MappingProxyType({})
RESERVED = frozenset(
    ["messages", "tools", "add_generation_prompt", "continue_final_message", "documents", "chat_template", "tokenize"]
)
"""Names that a client's variables must not have: they are fields of the request, or arguments of Hugging Face's."""
ADVICE = "use /v1/completions, or import the model again with another template"


class TemplateRejected(Exception):
    """The template called `raise_exception`: it refuses these messages."""


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja2.
        special_tokens: Texts of special tokens, by names of `SPECIAL_TOKENS`; "" for those that are not given.

    Raises:
        InvalidInput: It does not compile.
    """

    def __init__(self, source: str, **special_tokens: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= dict.fromkeys(SPECIAL_TOKENS, "") | special_tokens
        environment.globals |= {"raise_exception": _reject, "strftime_now": _strftime_now}
        self._known = RESERVED | environment.globals.keys()
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError, MemoryError) as error:
            raise InvalidInput(f"the model's chat template does not compile: {error}; {ADVICE}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        variables: Mapping[str, Any] = NO_VARIABLES,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt.

        Args:
            messages: The conversation.
            tools: In OpenAI's form.
            variables: Further names for the template, like `enable_thinking`; it may ignore them.
            add_generation_prompt: Whether the assistant's message begins at the end.

        Raises:
            InvalidInput: The template refuses the messages, fails, or makes a prompt above `MAX_PROMPT`; or a
                variable has a name that is taken.
        """
        if taken := sorted(self._known & variables.keys()):
            param = f"chat_template_kwargs.{taken[0]}"
            raise InvalidInput(f"{param}: the name is taken; it is no option of a template", param=param)
        given = {
            **variables,
            "messages": messages,
            "tools": tools or None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return _joined(self._template.generate({"documents": None, **given}))
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


def _reject(message: str) -> NoReturn:
    raise TemplateRejected(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' filter: without jinja2's HTML escapes, because prompts are not HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}` marks the trained part of a text; for a prompt it is its content."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
