"""Contracts over the bus: typed calls, responders and publishing."""

from collections.abc import Awaitable, Callable

from pydantic import ValidationError

from shared.bus.port import Bus, Message, Subscription
from shared.contracts.base import Contract, Endpoint, Request, Response
from shared.errors import InvalidInput


async def call(bus: Bus, endpoint: Endpoint[Request, Response], request: Request, *, timeout: float) -> Response:
    """Ask `endpoint`; raises the responder's error, or those of `Bus.request`. `timeout` is in seconds."""
    return endpoint.response.decode(await bus.request(endpoint.subject, request.encode(), timeout=timeout))


async def respond(
    bus: Bus,
    endpoint: Endpoint[Request, Response],
    handler: Callable[[Request], Awaitable[Response]],
    *,
    queue: str | None = None,
) -> Subscription:
    """Answer `endpoint` with `handler`; a request that does not parse is `InvalidInput` naming the field."""

    async def responder(message: Message) -> bytes:
        return (await handler(parse(endpoint.request, message.data))).encode()

    return await bus.respond(endpoint.subject, responder, queue=queue)


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
