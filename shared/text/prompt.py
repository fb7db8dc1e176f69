"""A request's prompt as token ids."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from shared.contracts.manifest import DecoderSpec
from shared.contracts.replica import ChatMessage, Generate, TemplateOptions, Tool
from shared.contracts.tokenization import MAX_CHARS, Tokenize
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.context_length import check_context_length
from shared.text.literal import Rendered
from shared.text.template import MAX_PROMPT
from shared.text.template_options import cut_open, leave_open, template_variables
from shared.text.template_process import TemplateProcess
from shared.text.template_traits import TYPICAL, TemplateTraits
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import takes_tools
from shared.text.tool_messages import native_messages, plain_messages, tool_object
from shared.text.user_text import UserText, guard_for

Value = TypeVar("Value")
_Objects = list[dict[str, Any]]

INLINE_CHARS = 4096
"""Longer texts are tokenised in a thread: about 1 ms of work."""


class PromptBuilder:
    """Renders and tokenises.

    Args:
        tokenizer: The version's.
        template: The version's, or None if it has none; then messages are rejected.
        spec: Says whether a text begins with a BOS token.
        max_len: Tokens that a slot takes: longer texts are rejected, if possible before they are tokenised.
        traits: How it takes calls, if it renders tools (`template_traits.traits_of`).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: TemplateProcess | None,
        spec: DecoderSpec,
        *,
        max_len: int,
        traits: TemplateTraits = TYPICAL,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._turns = tokenizer.control_ids | tokenizer.added_in(traits.turns)
        self._control = self._turns | tokenizer.added_in(traits.results)
        self._text, self._result = (
            UserText(filter(None, map(tokenizer.token, ids))) for ids in (self._turns, self._control)
        )
        self._bos = [spec.bos_token_id] if spec.add_bos_token and spec.bos_token_id is not None else []
        self._vocab_size = spec.vocab_size
        self._max_len = max_len
        self._traits = traits
        source = "" if template is None else template.source
        self._knows_developer = "developer" in source  # else the template has `system` only
        self._knows_tools = takes_tools(source)

    async def token_ids(self, request: Generate) -> list[int]:
        """The prompt of `request`.

        A rendered template has its own BOS token; a plain prompt gets one if the model was trained so; token ids are
        taken as they are. Control tokens are those that the template writes, and those of a plain prompt with
        `parse_special`; spelled anywhere else they are text. Raises `InvalidInput` (with the field) or
        `PayloadTooLarge`.
        """
        if request.messages is not None:
            tools = () if request.tool_choice.mode == "none" else request.tools
            rendered = await self._render(request.messages, tools, request.template)
            self._check_size(rendered.text, "messages")
            return await self._rendered_ids(rendered)
        if request.prompt is not None:
            self._check_size(request.prompt, "prompt")
            return self._bos + await self._prompt_ids(request.prompt, parse_special=request.parse_special)
        ids = list(request.prompt_token_ids or ())
        for token in (min(ids, default=0), max(ids, default=0)):
            if not 0 <= token < self._vocab_size:
                raise InvalidInput(
                    f"prompt has the token id {token}; this model has the tokens 0 to {self._vocab_size - 1}",
                    param="prompt",
                )
        return ids

    async def tokenize(self, request: Tokenize) -> list[int]:
        """The ids of a text or a conversation, whether or not it fits a slot.

        Raises `InvalidInput` (with the field) or `PayloadTooLarge`.
        """
        bos = self._bos if request.add_special_tokens else []
        if request.messages is not None:
            rendered = await self._render(request.messages, request.tools, request.template)
            _check_chars(rendered.text, "messages")
            return bos + await self._rendered_ids(rendered)
        text = request.prompt or ""
        _check_chars(text, "prompt")
        return bos + await self._prompt_ids(text, parse_special=request.parse_special is not False)

    async def _render(
        self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...], options: TemplateOptions
    ) -> Rendered:
        if self._template is None:
            raise InvalidInput(
                "this model has no chat template, so it takes no messages; use /v1/completions", param="messages"
            )
        if not messages:
            raise InvalidInput("messages is empty; send at least one message", param="messages")
        size = sum(len(message.content) for message in messages)
        if size > MAX_PROMPT:  # the template would be stopped
            self._check_length(size, "messages")
        plain, given = self._conversation(messages, tools)
        if options.continue_final_message:
            leave_open(plain, messages[-1])
        variables = template_variables(options.variables)
        guard = guard_for(plain, given, variables, self._template.source)
        plain, given, variables = await _unless_long(size, self._guarded, guard, plain, given, variables)
        prompt = await self._template.render(
            plain,
            given,
            variables=variables,
            add_generation_prompt=options.add_generation_prompt and not options.continue_final_message,
        )
        return Rendered.of(cut_open(prompt) if options.continue_final_message else prompt, guard)

    def _guarded(
        self, guard: str, messages: _Objects, tools: _Objects, variables: dict[str, Any]
    ) -> tuple[_Objects, _Objects, dict[str, Any]]:
        """What the template is given, with guards."""
        guarded = []
        for message in messages:
            text = self._result if message["role"] == "tool" else self._text
            guarded.append({**text.guarded(message, guard), "role": message["role"]})
        return guarded, self._text.guarded(tools, guard), self._text.guarded(variables, guard)

    def _conversation(
        self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Messages and tools as the template takes them."""
        if self._knows_tools:
            plain, given = native_messages(messages, self._traits), [tool_object(tool) for tool in tools]
        else:
            plain, given = plain_messages(messages, tools), []
        if not self._knows_developer:
            for message in plain:
                if message["role"] == "developer":
                    message["role"] = "system"
        return plain, given

    def _check_length(self, chars: int, param: str) -> None:
        """Raise `ContextLengthExceeded` if a text of so many characters cannot fit."""
        fewest = chars // self._tokenizer.chars_per_token
        check_context_length(fewest, 0, self._max_len, param=param, at_least=True)

    def _check_size(self, text: str, param: str) -> None:
        self._check_length(len(text), param)  # tokenising megabytes takes seconds
        if len(text) > MAX_PROMPT:
            raise PayloadTooLarge(
                f"the prompt has {len(text)} characters; at most {MAX_PROMPT} are taken", param=param
            )

    async def _rendered_ids(self, rendered: Rendered) -> list[int]:
        return await _unless_long(len(rendered.text), self._tokenizer.encode_rendered, rendered, self._control)

    async def _prompt_ids(self, text: str, *, parse_special: bool) -> list[int]:
        if parse_special:
            return await _unless_long(len(text), self._tokenizer.encode, text)
        return await _unless_long(len(text), self._tokenizer.encode_plain, text, self._turns)


def _check_chars(text: str, param: str) -> None:
    if len(text) > MAX_CHARS:
        raise PayloadTooLarge(f"the text has {len(text)} characters; at most {MAX_CHARS} are taken", param=param)


async def _unless_long(chars: int, work: Callable[..., Value], *arguments: Any) -> Value:
    """What `work` returns; done in a thread if the text is long."""
    if chars > INLINE_CHARS:
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)
