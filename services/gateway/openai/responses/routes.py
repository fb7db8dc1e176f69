"""The routes of responses and conversations."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.gateway.dispatch.generations import Generations
from services.gateway.http.operation import STREAM, Operation
from services.gateway.limits.stored import StoreLimits
from services.gateway.openai.responses.api import ResponsesApi
from services.gateway.openai.responses.background.leases import RunLeases
from services.gateway.openai.responses.background.retrieval import Retrieval
from services.gateway.openai.responses.background.runs import BackgroundRuns
from services.gateway.openai.responses.conversations_api import ConversationsApi
from services.gateway.openai.responses.generator import ResponseGenerator
from services.gateway.openai.responses.preparation import Preparation
from services.gateway.openai.responses.request.body import (
    ConversationRequest,
    ConversationUpdate,
    NewItems,
    ResponseRequest,
)
from services.gateway.openai.responses.request.parameters import PARAMETERS
from services.gateway.openai.responses.storage.conversations import Conversations
from services.gateway.openai.responses.storage.store import Store
from shared.bus.port import Bus

_PATH, _CONVERSATIONS = "/v1/responses", "/v1/conversations"
_ONE, _CONVERSATION = _PATH + "/{response_id}", _CONVERSATIONS + "/{conversation_id}"
_ITEMS, _ITEM = _CONVERSATION + "/items", _CONVERSATION + "/items/{item_id}"
_TAG = "inference"
_PAGE = {
    "after": "The id of the last item of the page before",
    "limit": "How many: 1 to 100, 20 by default",
    "order": "asc or desc (the default), by age",
    "include": "Accepted without effect",
}
_EVENTS = {
    "stream": "true: the events of a background response",
    "starting_after": "The number of an event: those behind it",
    "include": "Accepted without effect",
    "include_obfuscation": "Accepted without effect",
}


@asynccontextmanager
async def running(
    bus: Bus,
    generations: Generations,
    *,
    gateway_id: str,
    may_store: Callable[[str], bool],
    limits: StoreLimits,
    max_body: int,
) -> AsyncIterator[list[Operation]]:
    """The operations; background responses run while the block does.

    Args:
        bus: Has what is stored.
        generations: Generate text.
        gateway_id: Of this gateway.
        may_store: Whether a key may have responses stored.
        limits: What a key may store.
        max_body: Bytes of a request at most.
    """
    store, leases = Store(bus, limits), RunLeases(bus, gateway_id)
    conversations = Conversations(store, generations.created)
    generator = ResponseGenerator(generations, store, conversations)
    async with BackgroundRuns(generator, store, leases).running() as runs:
        preparation, retrieval = Preparation(generations, store, may_store), Retrieval(store, runs, leases)
        responses = ResponsesApi(preparation, generator, runs, retrieval, max_body)
        yield operations(responses, ConversationsApi(conversations, may_store, max_body))


def operations(responses: ResponsesApi, conversations: ConversationsApi) -> list[Operation]:
    """The operations."""
    return [*_responses(responses), *_conversations(conversations)]


def _responses(api: ResponsesApi) -> list[Operation]:
    return [
        Operation(
            "POST",
            _PATH,
            api.create,
            "Respond to items, as OpenAI does",
            _TAG,
            body=ResponseRequest,
            parameters=PARAMETERS,
            result=STREAM,
        ),
        Operation("GET", _ONE, api.retrieve, "A stored response", _TAG, result=STREAM, query=_EVENTS),
        Operation("DELETE", _ONE, api.delete, "Delete a stored response", _TAG),
        Operation("POST", _ONE + "/cancel", api.cancel, "End a background response", _TAG),
        Operation(
            "GET",
            _ONE + "/input_items",
            api.input_items,
            "The items that a response was generated for",
            _TAG,
            query=_PAGE,
        ),
    ]


def _conversations(api: ConversationsApi) -> list[Operation]:
    return [
        Operation("POST", _CONVERSATIONS, api.create, "Begin a conversation", _TAG, body=ConversationRequest),
        Operation("GET", _CONVERSATION, api.show, "A conversation", _TAG),
        Operation("POST", _CONVERSATION, api.update, "Change its metadata", _TAG, body=ConversationUpdate),
        Operation("DELETE", _CONVERSATION, api.delete, "Delete a conversation", _TAG),
        Operation("GET", _ITEMS, api.list_items, "The items of a conversation", _TAG, query=_PAGE),
        Operation("POST", _ITEMS, api.add_items, "Add items to a conversation", _TAG, body=NewItems),
        Operation("GET", _ITEM, api.show_item, "An item of a conversation", _TAG),
        Operation("DELETE", _ITEM, api.delete_item, "Delete an item of a conversation", _TAG),
    ]
