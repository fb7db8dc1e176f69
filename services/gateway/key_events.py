"""What happened to API keys, in a stream that nothing else writes to: no flood of requests pushes it out."""

from datetime import UTC, datetime

import structlog

from shared.bus.port import Bus
from shared.bus.rpc import publish
from shared.contracts.events import Event
from shared.contracts.gateway import (
    KEY_EVENTS_MAX_AGE_S,
    KEY_EVENTS_MAX_BYTES,
    KEY_EVENTS_STREAM,
    KEY_EVENTS_SUBJECT,
    ApiKey,
)
from shared.errors import LlmosError

_log = structlog.get_logger("llmos.gateway")


class KeyEvents:
    """Records and lists events of keys.

    Args:
        bus: Where the stream is.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.stream(
            KEY_EVENTS_STREAM, [KEY_EVENTS_SUBJECT], max_bytes=KEY_EVENTS_MAX_BYTES, max_age=KEY_EVENTS_MAX_AGE_S
        )

    async def record(self, kind: str, key: ApiKey, by: str) -> None:
        """Say in the stream and in the log that `by`, a key's id, did `kind` to a key."""
        detail = {"name": key.name, "scopes": " ".join(key.scopes)}
        _log.info(kind, key=key.id, by=by, **detail)
        event = Event(kind=kind, name=key.id, actor=by, at=datetime.now(UTC), detail=detail)
        try:
            # Makes the stream where this process is the owner: what is published without one is lost.
            await self._stream.after(0, KEY_EVENTS_SUBJECT, limit=1)
            await publish(self._bus, KEY_EVENTS_SUBJECT, event)
        except LlmosError as error:
            _log.warning("key_event.not_stored", kind=kind, key=key.id, problem=error.message)

    async def newest(self, count: int) -> list[Event]:
        """The newest events, newest first; raises what the bus raises."""
        return [Event.decode(message.data) for message in reversed(await self._stream.last(count))]
