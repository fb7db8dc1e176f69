"""Finds what a tenant has stored. What another tenant has is not found, as what does not exist."""

from typing import Any

from services.gateway.openai.responses.ids import CONVERSATION, RESPONSE, is_id
from services.gateway.openai.responses.storage.store import Store, Stored
from shared.errors import NotFound

_GONE = (
    "none of that id is stored for this key; it was deleted, was not used for 30 days, gave way to newer ones, or was"
    " never stored"
)


async def find(store: Store, tenant: str, kind: str, stored_id: str, param: str) -> Stored:
    """The record of a response or a conversation; raises `NotFound`."""
    found = await store.find(tenant, stored_id) if is_id(kind, stored_id) else None
    if found is None:
        raise not_found(kind, stored_id, param)
    return found


async def read(store: Store, tenant: str, kind: str, stored_id: str, param: str) -> tuple[dict[str, Any], Stored]:
    """Its content and record; raises `NotFound`."""
    found = await store.content(tenant, await find(store, tenant, kind, stored_id, param))
    if found is None:
        raise not_found(kind, stored_id, param)
    return found


def not_found(kind: str, stored_id: str, param: str) -> NotFound:
    """The error for an id that is not known."""
    what = {RESPONSE: "response", CONVERSATION: "conversation"}[kind]
    return NotFound(f"there is no {what} {stored_id!r:.80}: {_GONE}", param=param)
