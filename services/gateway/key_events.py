"""What happened to API keys, in a chain and a stream of its own: no flood of requests pushes it out."""

from contextlib import AbstractAsyncContextManager

from shared.audit.trail import Change, Trail
from shared.bus.port import Bus
from shared.contracts.events import KEY_EVENTS, Event
from shared.contracts.gateway import TENANTS_BUCKET, ApiKey

_STABLE = {"id", "name", "hash", "scopes", "created_at", "expires_at", "revoked", "may_store"}
"""The fields of a key that only a change changes."""


class KeyEvents:
    """Records and lists events of keys.

    Args:
        bus: Where the stream is.
        trail: Writes the chain `keys`.
    """

    def __init__(self, bus: Bus, trail: Trail) -> None:
        self._trail = trail
        self._stream = bus.stream(
            KEY_EVENTS.name, [KEY_EVENTS.subjects], max_bytes=KEY_EVENTS.max_bytes, max_age=KEY_EVENTS.max_age
        )

    def change(self, kind: str, before: ApiKey | None, after: ApiKey, by: str) -> AbstractAsyncContextManager[Event]:
        """Record that `by`, a key's id or a user, does `kind` to a key; the block does it. See `Trail.change`."""
        change = Change(f"{TENANTS_BUCKET}/{after.id}", _stable(before) if before else None, _stable(after))
        detail = {"name": after.name, "scopes": " ".join(after.scopes)}
        return self._trail.change(kind, after.id, change, by=by, **detail)

    async def newest(self, count: int) -> list[Event]:
        """The newest events, newest first; raises what the bus raises."""
        return [Event.decode(message.data) for _, message in reversed(await self._stream.last(count))]


def _stable(key: ApiKey) -> bytes:
    """What a key is. The time of its last use is noted and no change."""
    return key.model_dump_json(include=_STABLE).encode()
