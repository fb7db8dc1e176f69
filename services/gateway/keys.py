"""The API keys in KV `LLMOS_TENANTS`: made, listed, revoked.

They are checked against a local copy, so keys work while the bus is down.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from services.gateway import auth
from services.gateway.key_events import KeyEvents
from shared.audit.trail import Trail
from shared.bus.port import Bus, KvEvent, KvOperation
from shared.bus.records import Records
from shared.contracts.events import Event
from shared.contracts.gateway import TENANTS_BUCKET, ApiKey, Scope
from shared.contracts.manifest import is_name
from shared.errors import Conflict, InvalidInput, LlmosError, NotFound, Unauthenticated, Unavailable
from shared.service.background import background

_log = structlog.get_logger("llmos.gateway")

RETRY_S = 0.5
NOTE_USE_S = 5.0
"""Between two looks at which keys were used."""
USE_STEP = timedelta(hours=1)
"""The time of a key's last use is exact to this."""


class KeyStore:
    """All API keys.

    Args:
        bus: Where the records are kept.
        trail: Writes the chain `keys`.
        random: n random bytes.
        now: The time of day.
    """

    def __init__(
        self,
        bus: Bus,
        trail: Trail,
        random: Callable[[int], bytes] = secrets.token_bytes,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kv = bus.kv(TENANTS_BUCKET)
        self._events = KeyEvents(bus, trail)
        self._records = Records(self._kv, ApiKey)
        self._random = random
        self._now = now
        self._used: dict[str, datetime] = {}
        """When keys were used last, as far as their records are older."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KeyStore"]:
        """Follow the records, and note which keys are used, while the block runs."""
        async with self._records.running(), background(self._note_use(), "note the use of keys"):
            yield self

    @property
    def synced(self) -> bool:
        """Whether all keys have been read."""
        return self._records.synced

    async def wait_synced(self) -> None:
        """Return once all keys have been read."""
        await self._records.wait_synced()

    def list(self) -> list[ApiKey]:
        """All records, oldest first, with those that were revoked in the last 30 days."""
        now = self._now()
        listed = (record for record in self._records.values.values() if auth.is_listed(record, now))
        return sorted(listed, key=lambda record: (record.created_at, record.id))

    def scopes(self, key_id: str) -> tuple[Scope, ...]:
        """What a key may do; nothing if there is no such key."""
        record = self._records.get(key_id)
        return record.scopes if record else ()

    def may_store(self, key_id: str) -> bool:
        """Whether responses of a key's requests may be stored."""
        record = self._records.get(key_id)
        return record is None or record.may_store

    def check(self, key: str | None) -> ApiKey:
        """The record of a request's key.

        Raises:
            Unauthenticated: There is no key, or it is unknown.
            Unavailable: The keys could not be read yet.
        """
        try:
            record = auth.authenticate(key, self._records.values.values(), self._now())
        except Unauthenticated as error:
            if key is not None and not self.synced:
                raise Unavailable("the gateway has not read its API keys yet", retry_after=1.0) from error
            raise
        self._used[record.id] = self._now()
        return record

    async def create(
        self,
        name: str,
        scopes: tuple[Scope, ...],
        *,
        by: str = "",
        expires_in: timedelta | None = None,
        may_store: bool = True,
        event: str = "key.created",
    ) -> tuple[ApiKey, str]:
        """A new key, made by the key `by`: its record, and the key itself, which is stored nowhere."""
        key, now = auth.make_key(self._random(auth.SECRET_BYTES)), self._now()
        expires_at = None if expires_in is None else now + expires_in
        record = auth.new_record(key, name, scopes, now, expires_at=expires_at, may_store=may_store)
        await self._create(record, event, by)
        return record, key

    async def revoke(self, key_id: str, *, by: str = "") -> ApiKey:
        """Make a key invalid at once; the record stays.

        Raises:
            NotFound: There is no such key.
            Conflict: It is the last admin key: nobody could make another one.
        """
        while True:
            entry = await self._kv.get(key_id) if is_name(key_id) else None
            if entry is None:
                existing = ", ".join(record.id for record in self.list()) or "none"
                raise NotFound(f"there is no API key {key_id!r}; keys: {existing}", param="id")
            record = ApiKey.decode(entry.value)
            if auth.is_last_admin(record, self._records.values.values(), self._now()):
                raise Conflict(
                    f"{key_id} is the last admin key; make another first: llmos key create NAME --scope admin",
                    param="id",
                )
            revoked = record.model_copy(update={"revoked": True, "revoked_at": record.revoked_at or self._now()})
            try:
                async with self._events.change("key.revoked", record, revoked, by):
                    revision = await self._kv.update(key_id, revoked.encode(), entry.revision)
            except Conflict:
                continue
            await self._store(revoked, revision)
            return revoked

    async def events(self, count: int) -> Sequence[Event]:
        """What happened to keys, newest first: at most `count` events."""
        return await self._events.newest(count)

    async def ensure(self, file: Path) -> ApiKey:
        """Make sure that the admin key in `file` has a record; waits while the bus cannot be reached.

        Raises:
            InvalidInput: The file can't be read or holds no key.
        """
        key = read_key(file)
        record = auth.new_record(key, "bootstrap admin key", (Scope.ADMIN,), self._now())
        while True:
            try:
                await self._create(record, "key.created", "the admin key file")
            except Conflict:
                await self._records.wait_synced()
                existing = self._records.get(record.id) or record
                if existing.revoked:
                    _log.warning("admin_key.revoked", key=record.id, file=str(file))
                return existing
            except Unavailable as error:
                _log.warning("key_store.unreachable", problem=error.message)
                await asyncio.sleep(RETRY_S)
            else:
                _log.info("admin_key.recorded", key=record.id, file=str(file))
                return record

    async def _create(self, record: ApiKey, event: str, by: str) -> None:
        """Write a new record; `Conflict` if the key has one."""
        if await self._kv.get(record.id) is not None:
            raise Conflict(f"{record.id} has a record")
        async with self._events.change(event, None, record, by):
            await self._store(record, await self._kv.create(record.id, record.encode()))

    async def _note_use(self) -> None:
        """Write the times of use that are an hour newer than what the records say: rarely, and not per request."""
        while True:
            await asyncio.sleep(NOTE_USE_S)
            used, self._used = self._used, {}
            for key_id, at in used.items():
                record = self._records.get(key_id)
                if record is None or (record.last_used_at and at - record.last_used_at < USE_STEP):
                    continue
                try:
                    entry = await self._kv.get(key_id)
                    if entry is not None:
                        noted = ApiKey.decode(entry.value).model_copy(update={"last_used_at": at})
                        await self._store(noted, await self._kv.update(key_id, noted.encode(), entry.revision))
                except LlmosError as error:  # another gateway noted it, or the bus is away: the next use is noted
                    _log.debug("key.use_not_noted", key=key_id, problem=error.message)

    async def _store(self, record: ApiKey, revision: int) -> None:
        """Apply a change of this process before its watch event arrives: the next request must see it."""
        self._records.apply(KvEvent(KvOperation.PUT, record.id, record.encode(), revision))


def read_key(file: Path) -> str:
    """The key that a file holds; raises `InvalidInput` saying what is wrong with the file."""
    try:
        key = file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"the admin key file {file} can't be read: {error.strerror}") from error
    if not auth.KEY_PATTERN.match(key):
        raise InvalidInput(f"the admin key file {file} holds no key: expected 'llmos-' and 43 URL-safe characters")
    return key
