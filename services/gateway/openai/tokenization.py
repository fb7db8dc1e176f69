"""`POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`, as vLLM has them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.dialects.bounds import MAX_MESSAGES
from services.gateway.dispatch.tokenizations import Tokenizations, check_chars
from services.gateway.http.body import parse_body, parse_request, read_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.responses import json_response
from services.gateway.openai.messages import Message
from services.gateway.openai.parameters import REQUEST, check_messages
from services.gateway.openai.template_options import TemplateRequest
from services.gateway.openai.tools import ToolRequest
from shared.contracts.base import Empty
from shared.contracts.tokenization import (
    MAX_IDS,
    Detokenize,
    Tokenize,
    detokenize_endpoint,
    tokenize_endpoint,
    tokenizer_info_endpoint,
)
from shared.errors import InvalidInput


class TokenizeRequest(ToolRequest, TemplateRequest):
    """The body of `/tokenize`: a prompt or messages."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str | None = None
    """A deployment; not needed where there is exactly one (or exactly one that generates text)."""
    prompt: str | None = None
    messages: tuple[Message, ...] | None = Field(default=None, strict=False, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None
    """Whether BOS is added; default: yes for a prompt, no for messages, whose template adds it."""
    parse_special: bool | None = None
    """Whether control tokens spelled in `prompt` are control tokens. Default: where the model generates text."""
    return_token_strs: bool | None = None

    def command(self, tenant: str) -> Tokenize:
        """The contract's; raises `InvalidInput` where one field contradicts another, and `PayloadTooLarge`."""
        if (self.prompt is None) == (self.messages is None):
            raise InvalidInput("exactly one of prompt and messages is expected", param="prompt")
        if self.parse_special and self.prompt is None:
            raise InvalidInput(
                "parse_special is for prompt; in messages control tokens are text, and the template writes its own",
                param="parse_special",
            )
        special, messages = self.add_special_tokens, self.messages
        texts = (self.prompt or "",) if messages is None else [message.content for message in messages]
        check_chars(texts, "prompt" if messages is None else "messages")
        return Tokenize(
            prompt=self.prompt,
            messages=None if messages is None else tuple(message.chat_message() for message in messages),
            tools=() if self.contract_choice().mode == "none" else self.contract_tools(),
            add_special_tokens=messages is None if special is None else special,
            parse_special=self.parse_special,
            template=self.template_options(),
            return_token_strs=bool(self.return_token_strs),
            tenant=tenant,
        )


class DetokenizeRequest(BaseModel):
    """The body of `/detokenize`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    model: str | None = None
    tokens: tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...] = Field(strict=False, max_length=MAX_IDS)


def _parse_tokenize(body: bytes) -> TokenizeRequest:
    request = parse_body(TokenizeRequest, body, REQUEST)
    check_messages(request.messages or ())
    return request


def _parse_detokenize(body: bytes) -> DetokenizeRequest:
    return parse_body(DetokenizeRequest, body, REQUEST)


class TokenizationApi:
    """The tokenizers of deployments.

    Args:
        tokenizations: Ask replicas.
        max_body: Bytes of a request at most.
    """

    def __init__(self, tokenizations: Tokenizations, max_body: int) -> None:
        self._tokenizations = tokenizations
        self._max_body = max_body

    async def tokenize(self, request: Request) -> Response:
        """The token ids of a text or a conversation."""
        data = await read_body(request, self._max_body)
        body = await parse_request(request, _parse_tokenize, data)
        asking = self._tokenizations.ask(
            self._tokenizations.deployment(body.model),
            tokenize_endpoint,
            body.command(state_of(request.scope).key_id),
            size=len(data),
        )
        result = await unless_gone(request.receive, asking)
        return json_response(
            {
                "count": len(result.token_ids),
                "max_model_len": result.max_len,
                "tokens": result.token_ids,
                "token_strs": result.token_strs,
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of token ids."""
        data = await read_body(request, self._max_body)
        body = await parse_request(request, _parse_detokenize, data)
        asking = self._tokenizations.ask(
            self._tokenizations.deployment(body.model),
            detokenize_endpoint,
            Detokenize(token_ids=body.tokens, tenant=state_of(request.scope).key_id),
            size=len(data),
        )
        return json_response({"prompt": (await unless_gone(request.receive, asking)).text})

    async def info(self, request: Request) -> Response:
        """What `tokenizer_config.json` would say: the tokens with a role, and the chat template."""
        model = self._tokenizations.deployment(request.query_params.get("model"))
        info = await self._tokenizations.ask(model, tokenizer_info_endpoint, Empty())
        return json_response(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "pad_token": info.pad_token,
                "add_bos_token": info.add_bos_token,
                "chat_template": info.chat_template,
                "model_max_length": info.max_len,
            }
        )
