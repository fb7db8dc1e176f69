"""Replies on the wire: data, or an error as JSON with a header that says so."""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError

from shared.bus.port import MAX_OBJECT, Message, Responder
from shared.errors import ErrorPayload, Internal, LlmosError, PayloadTooLarge, from_payload
from shared.panics import STOPS

ERROR_HEADER = "Llmos-Error"
"""Carries the error's code; the body is an `ErrorPayload` then."""

_log = structlog.get_logger("llmos.bus")


@dataclass(frozen=True, slots=True)
class Reply:
    """A response or an error as it crosses the bus."""

    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


async def reply_of(responder: Responder, message: Message) -> Reply:
    """The responder's reply: an unexpected error is logged with an id and becomes `Internal`.

    Raises only what ends this task or the process.
    """
    try:
        return Reply(await responder(message))
    except LlmosError as error:
        return error_reply(error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _unexpected(message)  # something that the responder waited for was cancelled
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001  # the boundary of a service: the caller gets an id, the log the trace; panics too
        return _unexpected(message)


def _unexpected(message: Message) -> Reply:
    """The reply for the error that is being handled, which is logged under an id."""
    error_id = uuid.uuid4().hex[:12]
    _log.exception("bus.responder_failed", subject=message.subject, error_id=error_id)
    return error_reply(
        Internal(f"{message.subject} failed unexpectedly; the log of its service has error id {error_id}")
    )


def error_reply(error: LlmosError) -> Reply:
    """The error as a reply."""
    return Reply(error.payload().model_dump_json().encode(), {ERROR_HEADER: error.code})


def unwrap(data: bytes, headers: Mapping[str, str] | None) -> bytes:
    """The data of a reply; raises the error that it carries."""
    if not headers or ERROR_HEADER not in headers:
        return data
    try:
        payload = ErrorPayload.model_validate_json(data)
    except ValidationError as error:
        raise Internal(f"an error reply with code {headers[ERROR_HEADER]!r} that does not parse") from error
    raise from_payload(payload)


def check_size(size: int) -> None:
    """Raise `PayloadTooLarge` for a payload that the bus does not carry at all."""
    if size > MAX_OBJECT:
        raise PayloadTooLarge(
            f"a message of {size} bytes is larger than the bus carries ({MAX_OBJECT}); put it into the artifact store"
        )
