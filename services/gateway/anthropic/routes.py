"""The routes of the Messages API."""

from services.gateway.anthropic.api import MessagesApi
from services.gateway.anthropic.dialect import ANTHROPIC
from services.gateway.anthropic.parameters import COUNT, MESSAGES
from services.gateway.anthropic.requests import CountRequest, MessagesRequest
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.tokenizations import Tokenizations
from services.gateway.http.operation import STREAM, Operation

_CREATE = "The next message of a conversation, as Anthropic has it"
_COUNT = "How many tokens a conversation has, as Anthropic counts"


def routes(generations: Generations, tokenizations: Tokenizations, max_body: int) -> list[Operation]:
    """The operations.

    Args:
        generations: Generate messages.
        tokenizations: Ask the tokenizers of deployments.
        max_body: Bytes of a request at most.
    """
    api = MessagesApi(generations, tokenizations, max_body)
    return [
        Operation(
            "POST",
            "/v1/messages",
            api.create,
            _CREATE,
            "inference",
            body=MessagesRequest,
            result=STREAM,
            dialect=ANTHROPIC,
            parameters=MESSAGES,
        ),
        Operation(
            "POST",
            "/v1/messages/count_tokens",
            api.count_tokens,
            _COUNT,
            "inference",
            body=CountRequest,
            dialect=ANTHROPIC,
            parameters=COUNT,
        ),
    ]
