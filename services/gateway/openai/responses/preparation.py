"""What a request asks for, with all that came before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller, GenerationRequest, OutputOptions
from services.gateway.openai.responses.context import chat_messages, check_results
from services.gateway.openai.responses.fields import fields_of_a_response
from services.gateway.openai.responses.ids import CONVERSATION, RESPONSE, ItemIds, new_id, response_of
from services.gateway.openai.responses.request.body import ResponseRequest
from services.gateway.openai.responses.request.items import MAX_ITEMS
from services.gateway.openai.responses.resource import Resource, new_resource
from services.gateway.openai.responses.storage.lookup import read
from services.gateway.openai.responses.storage.store import Store
from shared.errors import Conflict, InvalidInput, NotFound, PermissionDenied

Items = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A response that can be generated."""

    request: ResponseRequest
    tenant: str
    resource: Resource
    generation: GenerationRequest
    ids: ItemIds
    context: Items
    """All input: what came before, and `new`."""
    new: Items
    """The items of the request itself."""
    store: bool

    @property
    def id(self) -> str:
        """Of the response."""
        response_id: str = self.resource["id"]
        return response_id

    @property
    def content(self) -> dict[str, Any]:
        """What is stored."""
        return {"response": self.resource, "input": self.context}


class Preparation:
    """Prepares responses.

    Args:
        generations: Makes the requests to replicas.
        store: Has what came before.
        may_store: Whether a key may have responses stored.
    """

    def __init__(self, generations: Generations, store: Store, may_store: Callable[[str], bool]) -> None:
        self._generations = generations
        self._store = store
        self._may_store = may_store

    async def prepare(self, request: ResponseRequest, tenant: str) -> Prepared:
        """The response to a request.

        Raises:
            NotFound: A response, a conversation or an item that it names is not stored.
            PermissionDenied: The key may not have it stored.
            InvalidInput: It has too many items, or a result without its call.
        """
        store = self._stores(request, tenant)
        response_id = new_id(RESPONSE)
        ids = ItemIds(response_id)
        before = await self._before(request, tenant)
        given = [item.normalised() for item in request.input]
        new = [ids.identified(item) for item in await self._resolved(given, before, tenant)]
        context = [*before, *new]
        if len(context) > MAX_ITEMS:
            raise InvalidInput(
                f"with what came before, the conversation has {len(context)} items; at most {MAX_ITEMS} are taken",
                param="input",
            )
        check_results(context, len(before))
        messages = chat_messages(request.instructions, context)
        if not messages:
            raise InvalidInput("input is required: there is nothing to respond to", param="input")
        answer = (response_id, request.sampling(self._generations.seed()))
        caller, tools = Caller(tenant, request.cache_salt or ""), request.tool_request()
        with fields_of_a_response():
            options = OutputOptions(
                request.grammar(), tools.contract_tools(), tools.contract_choice(), request.template_options()
            )
            [generation] = self._generations.chat_requests([answer], request.model, messages, caller, options=options)
        resource = new_resource(request, response_id, self._generations.created(), store=store)
        return Prepared(request, tenant, resource, generation, ids, context, new, store)

    def _stores(self, request: ResponseRequest, tenant: str) -> bool:
        """Whether the response is stored; raises `PermissionDenied` if it must be and may not."""
        if self._may_store(tenant):
            return request.store is not False
        for name, needed in (("store", request.store), ("background", request.background)):
            if needed:
                raise PermissionDenied(
                    f"the key {tenant} may not have responses stored, which {name}=true needs; leave it out, or ask"
                    " for another key",
                    param=name,
                )
        return False

    async def _before(self, request: ResponseRequest, tenant: str) -> Items:
        """The items that came before the request's."""
        if request.previous_response_id is not None:
            param = "previous_response_id"
            content, stored = await read(self._store, tenant, RESPONSE, request.previous_response_id, param)
            if not stored.record.status.is_final:
                raise Conflict(f"the response {stored.record.id} is not complete yet; wait for it first", param=param)
            return [*content["input"], *map(as_input, content["response"]["output"])]
        if request.conversation is not None:
            content, _ = await read(self._store, tenant, CONVERSATION, request.conversation.id, "conversation")
            items: Items = content["items"]
            return items
        return []

    async def _resolved(self, given: Items, before: Items, tenant: str) -> Items:
        """Items with those that others only refer to."""
        known = {item["id"]: item for item in before}
        resolved = []
        for index, item in enumerate(given):
            if item["type"] == "item_reference":
                resolved.append(await self._referenced(item["id"], known, tenant, f"input.{index}.id"))
            else:
                resolved.append(item)
        return resolved

    async def _referenced(
        self, item_id: str, known: dict[str, dict[str, Any]], tenant: str, param: str
    ) -> dict[str, Any]:
        owner = response_of(item_id)
        if item_id not in known and owner is not None:
            found = await self._store.find(tenant, owner)
            read_again = None if found is None else await self._store.content(tenant, found)
            if read_again is not None:
                content, _ = read_again
                known |= {each["id"]: as_input(each) for each in [*content["input"], *content["response"]["output"]]}
        if item_id not in known:
            raise NotFound(
                f"there is no item {item_id!r:.80}: the response that it was made in is not stored for this key; send"
                " the item itself",
                param=param,
            )
        return known[item_id]


def as_input(item: dict[str, Any]) -> dict[str, Any]:
    """An item of an output as one of a later input: log probabilities are not kept with it."""
    if item["type"] != "message" or item["role"] != "assistant":
        return item
    return {**item, "content": [{**part, "logprobs": []} if "logprobs" in part else part for part in item["content"]]}
