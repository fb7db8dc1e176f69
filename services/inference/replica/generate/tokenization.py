"""Handles requests to a decoder's tokenizer alone."""

import asyncio

from services.inference.replica.generate.model import LoadedModel
from services.inference.text.token_texts import TokenTexts
from services.inference.turns import Turns
from shared.contracts.base import Empty
from shared.contracts.manifest import DecoderSpec
from shared.contracts.tokenization import Detokenize, Detokenized, Tokenize, Tokenized, TokenizerInfo
from shared.errors import InvalidInput
from shared.text.prompt import PromptBuilder


class TokenizationHandler:
    """Handles `tokenize`, `detokenize` and `tokenizer_info`.

    Args:
        model: Has the tokenizer and the template.
        prompts: Renders and tokenises.
        spec: The version's.
        turns: In which texts are tokenised.
        max_len: Tokens that the deployment takes.
    """

    def __init__(
        self, model: LoadedModel, prompts: PromptBuilder, spec: DecoderSpec, *, turns: Turns, max_len: int
    ) -> None:
        self._tokenizer = model.tokenizer
        self._texts = TokenTexts(model.tokenizer)
        self._prompts = prompts
        self._spec = spec
        self._turns = turns
        self._max_len = max_len
        self._info = TokenizerInfo(
            bos_token=model.special_tokens.get("bos_token") or None,
            eos_token=model.special_tokens.get("eos_token") or None,
            pad_token=model.special_tokens.get("pad_token") or None,
            add_bos_token=spec.add_bos_token,
            chat_template=model.template,
            max_len=max_len,
        )

    async def tokenize(self, request: Tokenize) -> Tokenized:
        """The ids that a prompt or a conversation has; raises `InvalidInput` with the field, or `PayloadTooLarge`."""
        async with self._turns.turn(request.tenant):
            ids = await self._prompts.tokenize(request)
        strings = None
        if request.return_token_strs:
            strings = tuple([self._tokenizer.token(token_id) or "" for token_id in ids])
        return Tokenized(token_ids=tuple(ids), token_strs=strings, max_len=self._max_len)

    async def detokenize(self, request: Detokenize) -> Detokenized:
        """The text of ids; raises `InvalidInput` naming the first that the model does not have."""
        size = self._spec.vocab_size
        for index, token_id in enumerate(request.token_ids):
            if not 0 <= token_id < size:
                raise InvalidInput(
                    f"tokens.{index} is {token_id}; this model's token ids are 0 to {size - 1}", param="tokens"
                )
        async with self._turns.turn(request.tenant):
            return Detokenized(text=await asyncio.to_thread(self._texts.prompt_text, request.token_ids))

    async def tokenizer_info(self, _: Empty) -> TokenizerInfo:
        """The tokens with a role, and the chat template."""
        return self._info
