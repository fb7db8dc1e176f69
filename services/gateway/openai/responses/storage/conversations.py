"""Conversations: items with metadata, which responses are added to."""

from collections.abc import Callable
from typing import Any

from services.gateway.openai.responses.ids import CONVERSATION, new_id
from services.gateway.openai.responses.request.items import MAX_ITEMS
from services.gateway.openai.responses.storage.lookup import find, read
from services.gateway.openai.responses.storage.store import Store
from shared.errors import Conflict, InvalidInput

_ATTEMPTS = 8
"""Changes of one conversation at once, of which each sees the others', at most."""

Content = dict[str, Any]
"""`{"id", "created_at", "metadata", "items"}`."""


class Conversations:
    """The conversations of all tenants.

    Args:
        store: Has them.
        created: Unix time in seconds.
    """

    def __init__(self, store: Store, created: Callable[[], int]) -> None:
        self._store = store
        self._created = created

    async def create(self, tenant: str, items: list[dict[str, Any]], metadata: dict[str, str]) -> Content:
        """A new conversation; raises what `Store.create` raises."""
        conversation_id = new_id(CONVERSATION)
        content = {"id": conversation_id, "created_at": self._created(), "metadata": metadata, "items": items}
        await self._store.create(tenant, conversation_id, content)
        return content

    async def get(self, tenant: str, conversation_id: str, param: str = "conversation_id") -> Content:
        """A conversation; raises `NotFound`."""
        content, _ = await read(self._store, tenant, CONVERSATION, conversation_id, param)
        return content

    async def append(
        self, tenant: str, conversation_id: str, items: list[dict[str, Any]], param: str = "conversation_id"
    ) -> None:
        """Add items at the end; raises `NotFound`, or `InvalidInput` if there would be too many."""

        def add(content: Content) -> None:
            count = len(content["items"]) + len(items)
            if count > MAX_ITEMS:
                raise InvalidInput(
                    f"the conversation would have {count} items; at most {MAX_ITEMS} are taken: begin another",
                    param=param,
                )
            content["items"] += items

        await self.change(tenant, conversation_id, add, param)

    async def change(
        self,
        tenant: str,
        conversation_id: str,
        change: Callable[[Content], None],
        param: str = "conversation_id",
    ) -> Content:
        """Change a conversation as a whole; raises `NotFound`, and what `change` and `Store.create` raise."""
        for _ in range(_ATTEMPTS):
            content, stored = await read(self._store, tenant, CONVERSATION, conversation_id, param)
            change(content)
            try:
                await self._store.replace(tenant, stored, content)
            except Conflict:
                continue
            return content
        raise Conflict(f"the conversation {conversation_id} is changed by many at once; try again", param=param)

    async def delete(self, tenant: str, conversation_id: str) -> None:
        """Delete a conversation and its items; raises `NotFound`. Responses that were made in it stay."""
        stored = await find(self._store, tenant, CONVERSATION, conversation_id, "conversation_id")
        await self._store.delete(tenant, stored.record)
