"""What an answer is made from, and how it is made of a request."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from services.inference.encoder.tokenizer import MAX_CHARS, EncoderTokenizer
from services.inference.engine.decoder import Source
from shared.contracts.replica import ChatMessage, Generate
from shared.errors import InvalidInput, PayloadTooLarge
from shared.text.context_length import check_context_length
from shared.text.prompt import PromptBuilder


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an answer is made from."""

    ids: list[int]
    """Tokens that the answer follows in the decoder."""
    source: Source | None = None
    """What the encoder reads, where the model has one."""
    read: tuple[int, ...] | None = None
    """The tokens of a source that is text: the prompt as a client counts it. None: `ids`."""
    timestamps: int | None = None
    """The id of the timestamp 0.00, where the answer has timestamps."""
    control_texts: Mapping[int, str] = field(default_factory=dict)
    """Texts of control tokens that are part of the answer."""
    allowed: tuple[int, ...] | None = None
    """The only tokens that are chosen, if it is for the model to say which of these fits."""

    @property
    def shown(self) -> Sequence[int]:
        """The prompt's tokens as a client counts them."""
        return self.ids if self.read is None else self.read


class Prompts(Protocol):
    """Makes prompts of requests."""

    async def prompt(self, request: Generate) -> Prompt:
        """The prompt of `request`; raises `InvalidInput` (with the field) or `PayloadTooLarge`."""
        ...


class DecoderPrompts:
    """The prompts of a decoder alone.

    Args:
        builder: Renders and tokenises.
    """

    def __init__(self, builder: PromptBuilder) -> None:
        self._builder = builder

    async def prompt(self, request: Generate) -> Prompt:
        """See `Prompts.prompt`."""
        return Prompt(await self._builder.token_ids(request))


class SourcePrompts:
    """The prompts of a model with an encoder that reads texts: the client's text is the source.

    Args:
        tokenizer: Of sources, with the special tokens that the model was trained with.
        prefix: Tokens that each answer begins with.
        vocab_size: Token ids are 0..vocab_size-1.
        limit: Tokens of a source, at most.
    """

    def __init__(self, tokenizer: EncoderTokenizer, prefix: Sequence[int], *, vocab_size: int, limit: int) -> None:
        self._tokenizer = tokenizer
        self._prefix = list(prefix)
        self._vocab_size = vocab_size
        self._limit = limit

    async def prompt(self, request: Generate) -> Prompt:
        """See `Prompts.prompt`. Control tokens that a text spells are text."""
        _check_supported(request)
        if request.prompt_token_ids is not None:
            ids = list(request.prompt_token_ids)
            for token in ids:
                if not 0 <= token < self._vocab_size:
                    raise InvalidInput(
                        f"prompt has the token id {token}; this model has the tokens 0 to {self._vocab_size - 1}",
                        param="prompt",
                    )
            self._check_length(len(ids), "prompt")
        else:
            param = "prompt" if request.messages is None else "messages"
            text = request.prompt or "" if request.messages is None else _source_text(request.messages)
            if len(text) > MAX_CHARS:
                raise PayloadTooLarge(
                    f"the text has {len(text)} characters; at most {MAX_CHARS} are taken", param=param
                )
            ids = await asyncio.to_thread(self._tokenizer.encode, text, special=True)
            self._check_length(len(ids), param)
        return Prompt(list(self._prefix), np.array(ids, dtype=np.int64), tuple(ids))

    def _check_length(self, tokens: int, param: str) -> None:
        if not tokens:
            raise InvalidInput(f"{param} has no tokens; send a text that is not empty", param=param)
        check_context_length(tokens, 0, self._limit, param=param, text="the source text", advice="split the text")


def _check_supported(request: Generate) -> None:
    if request.sampling.prompt_logprobs is not None:
        raise InvalidInput(
            "this model reads the prompt with an encoder, which predicts no tokens: leave prompt_logprobs (and echo"
            " with logprobs) out",
            param="prompt_logprobs",
        )
    if request.tools:
        raise InvalidInput("this model calls no tools; leave tools out", param="tools")
    if request.parse_special:
        raise InvalidInput(
            "special tokens in this model's texts are text; leave parse_special (in Ollama's API: raw) out",
            param="parse_special",
        )


def _source_text(messages: Sequence[ChatMessage]) -> str:
    """The text of the one user message, after that of a system message, which may name the task."""
    roles = [message.role for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise InvalidInput(
            "this model maps one text to another and holds no conversation: send one user message, after a system"
            f" message if the model needs its task named (got {', '.join(roles) or 'none'})",
            param="messages",
        )
    return " ".join(message.content for message in messages if message.content)
