"""Buckets over JetStream KV."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from nats.js.api import DiscardPolicy, Header, RePublish, StorageType, StreamConfig
from nats.js.errors import APIError, KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KV_DEL, KV_OP, KeyValue

from shared.bus.names import LIVE_SUBJECT, bucket_stream, check_bucket, check_key
from shared.bus.nats.jetstream import CALL_S, WRONG_LAST_SEQUENCE, JetStream, nothing, unexpected
from shared.bus.nats.stored import StoredMessages
from shared.bus.nats.watch import NatsWatch, kv_event
from shared.bus.port import MAX_RECORD, KvEntry, KvOperation
from shared.errors import Conflict, DeadlineExceeded, PayloadTooLarge, StorageFull

MARKER_TTL_S = 3600.0
"""How long the record that a key was deleted stays. A watch that was away longer finds out by the resync."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class WholeBucket:
    """A bucket as its owner sees it."""

    entries: tuple[KvEntry, ...]
    """By key."""
    revision: int
    """Of the last change, deletions included."""
    unreadable: int
    """Messages that the server counts and can't read: its files are damaged."""


class NatsKeyValue:
    """One bucket. Values never travel as object references: at most `MAX_RECORD` bytes.

    While `why_no_changes` has a reason, records are not written, but leases are.
    """

    def __init__(
        self, jetstream: JetStream, bucket: str, ttl: float | None, why_no_changes: Callable[[], str | None]
    ) -> None:
        check_bucket(bucket)
        self.bucket = bucket
        self.ttl = ttl
        self._jetstream = jetstream
        self._stream = bucket_stream(bucket)
        self._prefix = f"$KV.{bucket}."
        self._why_no_changes = why_no_changes
        self._ready = False

    async def get(self, key: str) -> KvEntry | None:
        """The entry, or None."""
        check_key(key)
        try:
            found = await self._call(lambda kv: kv.get(key))
        except NotFoundError:
            return None
        return KvEntry(key, found.value or b"", found.revision or 0)

    async def put(self, key: str, value: bytes) -> int:
        """Write whether the key exists or not; returns the new revision."""
        self._check(key, value)
        return await self._call(lambda kv: kv.put(key, value))

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not exist; raises `Conflict`."""
        self._check(key, value)
        try:
            return await self._call(lambda kv: kv.create(key, value))
        except KeyWrongLastSequenceError as error:
            raise Conflict(f"{key!r} exists already in {self.bucket}") from error

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write if the entry is still at `revision`; raises `Conflict`."""
        self._check(key, value)
        try:
            return await self._call(lambda kv: kv.update(key, value, last=revision))
        except KeyWrongLastSequenceError as error:
            raise self._changed(key, revision) from error

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove the key, if given only at `revision` (raises `Conflict`). A missing key is no error."""
        check_key(key)
        entry = await self.get(key)
        if entry is None:
            return
        headers = {KV_OP: KV_DEL}
        if revision is not None:
            headers[Header.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(revision)
        try:
            await self._jetstream.call(
                lambda: self._jetstream.context.publish(
                    f"{self._prefix}{key}", b"", headers=dict(headers), msg_ttl=MARKER_TTL_S
                ),
                ensure=self.ensure,
            )
        except APIError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise unexpected(f"a change of {self.bucket}", error) from error
            if await self.get(key) is not None:
                raise self._changed(key, revision) from error

    async def entries(self) -> list[KvEntry]:
        """All entries, by key."""
        found: dict[str, KvEntry] = {}
        try:
            async with asyncio.timeout(CALL_S):
                async for message in StoredMessages(self._jetstream, self._stream, f"{self._prefix}>", self.ensure):
                    event = kv_event(message, self._prefix)
                    if event.operation is KvOperation.PUT:
                        found[event.key] = KvEntry(event.key, event.value, event.revision)
                    else:
                        found.pop(event.key, None)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.bucket} could not be read within {CALL_S:g} s") from error
        return [found[key] for key in sorted(found)]

    async def whole(self) -> "WholeBucket":
        """All entries with what the server says about the bucket; as the owner, while nothing writes."""
        ended = f"{self.bucket} could not be read within {CALL_S:g} s"
        info = (await self._call(lambda _: self._jetstream.manager.stream_info(self._stream))).state
        entries: dict[str, KvEntry] = {}
        found = 0
        try:
            async with asyncio.timeout(CALL_S):
                async for message in StoredMessages(self._jetstream, self._stream, f"{self._prefix}>", self.ensure):
                    found += 1
                    event = kv_event(message, self._prefix)
                    if event.operation is KvOperation.PUT:
                        entries[event.key] = KvEntry(event.key, event.value, event.revision)
        except TimeoutError as error:
            raise DeadlineExceeded(ended) from error
        return WholeBucket(
            tuple(entries[key] for key in sorted(entries)), info.last_seq, max(0, info.messages - found)
        )

    def watch(self) -> AbstractAsyncContextManager[NatsWatch]:
        """All that is there, `SYNCED`, then every change, in order, across reconnects."""
        live = f"{LIVE_SUBJECT}.{self.bucket}.>"
        return NatsWatch(self._jetstream, self._stream, self._prefix, live, self.ensure).running()

    async def clear(self) -> None:
        """Remove all that it holds, readable or not; as the owner, while no watch runs: none is sent an event."""
        await self._call(lambda _: self._jetstream.manager.purge_stream(self._stream))

    async def probe(self) -> None:
        """Write what no reader sees: that a key which never was is deleted, for a second.

        Raises what a change raises that the server can't store.
        """
        try:
            await self._jetstream.call(
                lambda: self._jetstream.context.publish(
                    f"{self._prefix}probe", b"", headers={KV_OP: KV_DEL}, msg_ttl=1.0
                ),
                ensure=self.ensure,
            )
        except APIError as error:
            raise unexpected(f"a change of {self.bucket}", error) from error

    async def make(self) -> None:
        """Make the bucket, or change it to what it should be; as the owner."""
        await self._jetstream.call(nothing, ensure=self.ensure)

    async def ensure(self, lost: bool) -> None:
        """Make the bucket if it is not there."""
        if self._ready and not lost:
            return
        ttl = self.ttl
        config = StreamConfig(
            name=self._stream,
            subjects=[f"{self._prefix}>"],
            max_age=ttl or 0,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            storage=StorageType.MEMORY if ttl and self._jetstream.leases_in_memory else StorageType.FILE,
            duplicate_window=min(ttl or 120.0, 120.0),
            allow_rollup_hdrs=True,
            allow_msg_ttl=True,
            allow_direct=True,
            deny_delete=True,
            republish=RePublish(src=f"{self._prefix}>", dest=f"{LIVE_SUBJECT}.{self.bucket}.>"),
        )
        await self._jetstream.ensure_stream(
            config,
            suits=lambda found: found.republish is not None and (ttl is None or _same(found.max_age, ttl)),
            may_be_emptied=ttl is not None,
        )
        self._ready = True

    async def _call(self, work: Callable[[KeyValue], Awaitable[Result]]) -> Result:
        try:
            return await self._jetstream.call(lambda: work(self._kv()), ensure=self.ensure)
        except (NotFoundError, KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError):
            raise
        except APIError as error:
            raise unexpected(f"a request to {self.bucket}", error) from error

    def _kv(self) -> KeyValue:
        # A direct read is the only one that says nothing but the entry's own bytes; its server is the leader, because
        # streams have one replica.
        return KeyValue(
            name=self.bucket, stream=self._stream, pre=self._prefix, js=self._jetstream.context, direct=True
        )

    def _check(self, key: str, value: bytes) -> None:
        """Raise what forbids to write the value now."""
        check_key(key)
        if len(value) > MAX_RECORD:
            raise PayloadTooLarge(
                f"the value of {key!r} has {len(value)} bytes; a record of the bus has at most {MAX_RECORD}"
            )
        if self.ttl is None and (why := self._why_no_changes()) is not None:
            raise StorageFull(f"nothing was changed: {why}")

    def _changed(self, key: str, revision: int | None) -> Conflict:
        return Conflict(f"{key!r} in {self.bucket} is no longer at revision {revision}: read it again")


def _same(found: float | None, desired: float) -> bool:
    return abs((found or 0.0) - desired) < 1e-3
