"""Handles requests to an encoder's tokenizer alone."""

import asyncio

from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.turns import Turns
from shared.contracts.base import Empty
from shared.contracts.manifest import EncoderSpec
from shared.contracts.tokenization import MAX_CHARS, Detokenize, Detokenized, Tokenize, Tokenized, TokenizerInfo
from shared.errors import InvalidInput, PayloadTooLarge


class TokenizationHandler:
    """Handles `tokenize`, `detokenize` and `tokenizer_info`.

    Args:
        tokenizer: The version's.
        spec: The version's.
        turns: In which texts are tokenised.
        max_len: Tokens of one text that the deployment takes.
    """

    def __init__(self, tokenizer: EncoderTokenizer, spec: EncoderSpec, *, turns: Turns, max_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_len = max_len
        self._turns = turns
        self._info = TokenizerInfo(pad_token=tokenizer.token(spec.pad_token_id), max_len=max_len)

    async def tokenize(self, request: Tokenize) -> Tokenized:
        """The ids of a text; raises `InvalidInput` for a conversation, or `PayloadTooLarge`."""
        if request.prompt is None:
            raise InvalidInput(
                "this model encodes texts and has no chat template; send prompt instead of messages", param="messages"
            )
        if len(request.prompt) > MAX_CHARS:
            raise PayloadTooLarge(
                f"the text has {len(request.prompt)} characters; at most {MAX_CHARS} are taken", param="prompt"
            )
        if request.parse_special:
            raise InvalidInput(
                "this model encodes texts, in which special tokens are text; leave parse_special out",
                param="parse_special",
            )
        async with self._turns.turn(request.tenant):
            ids = await asyncio.to_thread(self._tokenizer.encode, request.prompt, special=request.add_special_tokens)
        strings = None
        if request.return_token_strs:
            strings = tuple([self._tokenizer.token(token_id) or "" for token_id in ids])
        return Tokenized(token_ids=tuple(ids), token_strs=strings, max_len=self._max_len)

    async def detokenize(self, request: Detokenize) -> Detokenized:
        """The text of ids; raises `InvalidInput` for an id that the model does not have."""
        async with self._turns.turn(request.tenant):
            return Detokenized(text=await asyncio.to_thread(self._tokenizer.decode, request.token_ids))

    async def tokenizer_info(self, _: Empty) -> TokenizerInfo:
        """The padding token; an encoder has no chat template, and its other special tokens have other roles."""
        return self._info
