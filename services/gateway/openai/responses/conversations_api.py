"""`/v1/conversations`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.body import parsed, read_body
from services.gateway.http.responses import json_response
from services.gateway.openai.pages import listed
from services.gateway.openai.responses.api import items_page, tenant_of
from services.gateway.openai.responses.ids import CONVERSATION, ItemIds, new_id
from services.gateway.openai.responses.request.body import (
    ConversationRequest,
    ConversationUpdate,
    NewItems,
    parse_items_body,
)
from services.gateway.openai.responses.request.items import InputItem
from services.gateway.openai.responses.resource import deleted
from services.gateway.openai.responses.storage.conversations import Content, Conversations
from shared.errors import InvalidInput, NotFound, PermissionDenied


class ConversationsApi:
    """Conversations and their items.

    Args:
        conversations: Has them.
        may_store: Whether a key may have conversations stored.
        max_body: Bytes of a request at most.
    """

    def __init__(self, conversations: Conversations, may_store: Callable[[str], bool], max_body: int) -> None:
        self._conversations = conversations
        self._may_store = may_store
        self._max_body = max_body

    async def create(self, request: Request) -> Response:
        """A new conversation."""
        raw = await read_body(request, self._max_body)
        body = await parsed(partial(parse_items_body, ConversationRequest), raw or b"{}")
        tenant = tenant_of(request)
        if not self._may_store(tenant):
            raise PermissionDenied(f"the key {tenant} may not have conversations stored; ask for another key")
        content = await self._conversations.create(tenant, _identified(body.items or ()), body.metadata or {})
        return json_response(_view(content))

    async def show(self, request: Request) -> Response:
        """A conversation."""
        return json_response(_view(await self._conversations.get(tenant_of(request), _id_of(request))))

    async def update(self, request: Request) -> Response:
        """Replace the metadata of a conversation."""
        raw = await read_body(request, self._max_body)
        body = await parsed(partial(parse_items_body, ConversationUpdate), raw)
        content = await self._conversations.change(
            tenant_of(request), _id_of(request), lambda content: content.update(metadata=body.metadata or {})
        )
        return json_response(_view(content))

    async def delete(self, request: Request) -> Response:
        """Delete a conversation."""
        conversation_id = _id_of(request)
        await self._conversations.delete(tenant_of(request), conversation_id)
        return json_response(deleted("conversation.deleted", conversation_id))

    async def list_items(self, request: Request) -> Response:
        """A page of the items."""
        content = await self._conversations.get(tenant_of(request), _id_of(request))
        return json_response(items_page(content["items"], request))

    async def add_items(self, request: Request) -> Response:
        """Add items at the end."""
        raw = await read_body(request, self._max_body)
        body = await parsed(partial(parse_items_body, NewItems), raw)
        items = _identified(body.items)
        await self._conversations.append(tenant_of(request), _id_of(request), items)
        return json_response(listed(items, more=False))

    async def show_item(self, request: Request) -> Response:
        """One item."""
        content = await self._conversations.get(tenant_of(request), _id_of(request))
        return json_response(content["items"][_index(content, _item_of(request))])

    async def delete_item(self, request: Request) -> Response:
        """Delete an item; returns the conversation."""

        def remove(content: Content) -> None:
            del content["items"][_index(content, _item_of(request))]

        return json_response(_view(await self._conversations.change(tenant_of(request), _id_of(request), remove)))


def _identified(items: tuple[InputItem, ...]) -> list[dict[str, Any]]:
    ids = ItemIds(new_id(CONVERSATION))
    for index, item in enumerate(items):
        if item.type == "item_reference":
            raise InvalidInput(
                "an item_reference can't be added to a conversation; send the item itself", param=f"items.{index}"
            )
    return [ids.identified(item.normalised()) for item in items]


def _index(content: Content, item_id: str) -> int:
    for index, item in enumerate(content["items"]):
        if item["id"] == item_id:
            return index
    raise NotFound(f"the conversation {content['id']} has no item {item_id!r:.80}", param="item_id")


def _view(content: Content) -> dict[str, Any]:
    names = ("id", "created_at", "metadata")
    return {"object": "conversation", **{name: content[name] for name in names}}


def _id_of(request: Request) -> str:
    conversation_id: str = request.path_params["conversation_id"]
    return conversation_id


def _item_of(request: Request) -> str:
    item_id: str = request.path_params["item_id"]
    return item_id
