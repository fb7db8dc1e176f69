"""Generates a response: through `Generations`, as chats are."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import chain

import structlog

from services.gateway.dispatch.concurrent_generations import ConcurrentGenerations
from services.gateway.dispatch.generations import Generations
from services.gateway.openai.responses.fields import fields_of_a_response
from services.gateway.openai.responses.output import Event, ResponseOutput
from services.gateway.openai.responses.preparation import Prepared, as_input
from services.gateway.openai.responses.resource import Resource, accept
from services.gateway.openai.responses.storage.conversations import Conversations
from services.gateway.openai.responses.storage.store import Store
from shared.contracts.gateway import Usage
from shared.contracts.response import ResponseStatus
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.gateway")


class ResponseGenerator:
    """Generates responses, and keeps those that are complete.

    Args:
        generations: Generate text.
        store: Of responses.
        conversations: Get what is added to them.
    """

    def __init__(self, generations: Generations, store: Store, conversations: Conversations) -> None:
        self._generations = generations
        self._store = store
        self._conversations = conversations

    @asynccontextmanager
    async def running(self, prepared: Prepared) -> AsyncIterator[AsyncIterator[Iterator[Event]]]:
        """The events of a response, up to its end; its last state is none of them. A replica has accepted it.

        Those of one moment come together, and are made when they are read: read them to their end before the next.
        Leaving the block early cancels the generation. Raises what `Generations.running` raises.
        """
        with fields_of_a_response():
            async with self._generations.running([prepared.generation]) as generations:
                yield self._events(prepared, generations)

    async def _events(self, prepared: Prepared, generations: ConcurrentGenerations) -> AsyncIterator[Iterator[Event]]:
        resource, accepted = prepared.resource, generations.prompt(0)
        accept(resource, accepted.sampling)
        logprobs = prepared.request.has_logprobs
        output = ResponseOutput(resource, prepared.ids, accepted.thinking, logprobs=logprobs)
        yield _begin(resource, queued=bool(prepared.request.background))
        with fields_of_a_response():
            async for _, frame in generations.frames():
                added = output.add(frame)
                if frame.finish_reason is None:
                    yield added
                    continue
                usage = frame.usage or Usage(prompt_tokens=accepted.prompt_tokens, completion_tokens=0)
                yield chain(added, output.end(frame.finish_reason, usage, self._generations.created()))

    async def keep(self, prepared: Prepared) -> None:
        """Add a complete response to its conversation, and store it.

        A response that is complete but cannot be stored is not lost: it says that it is not stored. Raises what
        `Conversations.append` raises.
        """
        await self.extend_conversation(prepared)
        if not prepared.store:
            return
        try:
            await self._store.create(
                prepared.tenant, prepared.id, prepared.content, status=prepared.resource["status"]
            )
        except LlmosError as error:
            prepared.resource["store"] = False
            _log.warning("response.not_stored", id=prepared.id, code=error.code, problem=error.message)

    async def extend_conversation(self, prepared: Prepared) -> None:
        """Add a complete response, with its input, to its conversation if it has one."""
        if (conversation := prepared.request.conversation) is not None:
            items = [*prepared.new, *map(as_input, prepared.resource["output"])]
            await self._conversations.append(prepared.tenant, conversation.id, items, "conversation")


def _begin(resource: Resource, *, queued: bool) -> Iterator[Event]:
    yield "response.created", {"response": resource}
    if queued:
        yield "response.queued", {"response": resource}
        resource["status"] = ResponseStatus.IN_PROGRESS
    yield "response.in_progress", {"response": resource}
