"""Contracts over the bus: typed calls, endpoints and publishing."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import Tracer
from pydantic import ValidationError

from shared.bus.port import Bus, Message, Subscription
from shared.contracts.base import Contract, Endpoint, Request, Response
from shared.errors import InvalidInput, LlmosError

Handler = Callable[[Any], Awaitable[Contract]]
"""Takes an endpoint's request and returns its response."""
Handlers = Mapping[Endpoint[Any, Any], Handler]


async def call(bus: Bus, endpoint: Endpoint[Request, Response], request: Request, *, timeout: float) -> Response:
    """An endpoint's response; raises the responder's error, or those of `Bus.request`. `timeout` is in seconds."""
    return endpoint.response.decode(await bus.request(endpoint.subject, request.encode(), timeout=timeout))


async def respond(
    bus: Bus,
    endpoint: Endpoint[Request, Response],
    handler: Callable[[Request], Awaitable[Response]],
    *,
    queue: str | None = None,
) -> Subscription:
    """Respond to one endpoint's requests; a request that does not parse is `InvalidInput` naming the field."""

    async def responder(message: Message) -> bytes:
        return (await handler(parse(endpoint.request, message.data))).encode()

    return await bus.respond(endpoint.subject, responder, queue=queue)


@asynccontextmanager
async def serve(
    bus: Bus, handlers: Handlers, *, queue: str | None = None, tracer: Tracer | None = None
) -> AsyncIterator[None]:
    """Respond to the requests of several endpoints while inside.

    All of them are active at the server when the block begins. Leaving takes no new requests and waits for the
    handlers that run.

    Args:
        bus: Where the requests come from.
        handlers: What responds to each endpoint; see `respond`.
        queue: The queue group: each request goes to one of its members.
        tracer: Records a span for each request, named after the endpoint: `registry resolve`.
    """
    async with AsyncExitStack() as stack:
        for endpoint, handler in handlers.items():
            traced = handler if tracer is None else _traced(tracer, endpoint, handler)
            subscription = await respond(bus, endpoint, traced, queue=queue)
            stack.push_async_callback(subscription.unsubscribe)
        yield


def _traced(tracer: Tracer, endpoint: Endpoint[Any, Any], handler: Handler) -> Handler:
    name = f"{endpoint.subject.split('.')[-2]} {endpoint.verb}"

    async def traced(request: Contract) -> Contract:
        with tracer.start_as_current_span(name) as span:
            try:
                return await handler(request)
            except LlmosError as error:
                span.set_attribute(ERROR_TYPE, error.code)
                raise

    return traced


async def publish(bus: Bus, subject: str, message: Contract) -> None:
    """Fire and forget."""
    await bus.publish(subject, message.encode())


def parse(contract: type[Request], data: bytes) -> Request:
    """The message in `data`, or `InvalidInput` naming the first wrong field."""
    try:
        return contract.decode(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise InvalidInput(f"{param or 'body'}: {first['msg']}", param=param) from error
