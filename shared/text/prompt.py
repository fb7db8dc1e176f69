"""A request's prompt as token ids."""

import asyncio

from shared.contracts.manifest import DecoderSpec
from shared.contracts.replica import ChatMessage, Generate, Tool
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.context_length import check_context_length
from shared.text.template import MAX_PROMPT
from shared.text.template_process import TemplateProcess
from shared.text.tokenizer import Tokenizer
from shared.text.tool_form import takes_tools
from shared.text.tool_messages import native_message, plain_messages, tool_object

INLINE_CHARS = 4096
"""Longer texts are tokenised in a thread: about 1 ms of work."""


class PromptBuilder:
    """Renders and tokenises.

    Args:
        tokenizer: The version's.
        template: The version's, or None if it has none; then messages are rejected.
        spec: Says whether a text begins with a BOS token.
        max_len: Tokens that a slot takes: longer texts are rejected, if possible before they are tokenised.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: TemplateProcess | None,
        spec: DecoderSpec,
        *,
        max_len: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._bos = [spec.bos_token_id] if spec.add_bos_token and spec.bos_token_id is not None else []
        self._max_len = max_len
        source = "" if template is None else template.source
        self._knows_developer = "developer" in source  # else the template has `system` only
        self._knows_tools = takes_tools(source)

    async def token_ids(self, request: Generate) -> list[int]:
        """The prompt of `request`.

        A rendered template has its own BOS token; a plain prompt gets one if the model was trained so; token ids are
        taken as they are. Raises `InvalidInput` (with the field) or `PayloadTooLarge`.
        """
        if request.messages is not None:
            return await self._encode(await self._render(request.messages, self._tools(request)), "messages")
        if request.prompt is not None:
            return self._bos + await self._encode(request.prompt, "prompt")
        return list(request.prompt_token_ids or ())

    @staticmethod
    def _tools(request: Generate) -> tuple[Tool, ...]:
        return () if request.tool_choice.mode == "none" else request.tools

    async def _render(self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...]) -> str:
        if self._template is None:
            raise InvalidInput(
                "this model has no chat template, so it takes no messages; use /v1/completions", param="messages"
            )
        if not messages:
            raise InvalidInput("messages is empty; send at least one message", param="messages")
        if self._knows_tools:
            plain, given = [native_message(message) for message in messages], [tool_object(tool) for tool in tools]
        else:
            plain, given = plain_messages(messages, tools), []
        if not self._knows_developer:
            for message in plain:
                if message["role"] == "developer":
                    message["role"] = "system"
        return await self._template.render(plain, given)

    async def _encode(self, text: str, param: str) -> list[int]:
        if len(text) > MAX_PROMPT:
            raise PayloadTooLarge(
                f"the prompt has {len(text)} characters; at most {MAX_PROMPT} are taken", param=param
            )
        fewest = len(text) // self._tokenizer.chars_per_token  # tokenising megabytes takes seconds
        check_context_length(fewest, 0, self._max_len, param=param, at_least=True)
        if len(text) > INLINE_CHARS:
            return await asyncio.to_thread(self._tokenizer.encode, text)
        return self._tokenizer.encode(text)
