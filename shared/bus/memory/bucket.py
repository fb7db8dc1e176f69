"""What a bucket in memory holds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.bus.port import KvEntry, KvEvent, KvOperation
from shared.errors import StorageFull


@dataclass(slots=True)
class _Stored:
    entry: KvEntry
    written_at: float


@dataclass(slots=True, eq=False)
class Bucket:
    """The entries of a bucket and its watchers. Entries older than `ttl` are removed by the next reader."""

    clock: Callable[[], float]
    ttl: float | None = None
    max_bytes: int | None = None
    """Of all keys and values."""
    revision: int = 0
    watchers: list[Callable[[KvEvent], None]] = field(default_factory=list)
    _stored: dict[str, _Stored] = field(default_factory=dict)

    def get(self, key: str) -> KvEntry | None:
        """The entry, or None."""
        self._expire()
        stored = self._stored.get(key)
        return stored.entry if stored else None

    def entries(self) -> list[KvEntry]:
        """All entries in the order in which they were written."""
        self._expire()
        return sorted((stored.entry for stored in self._stored.values()), key=lambda entry: entry.revision)

    def write(self, key: str, value: bytes) -> int:
        """Write, notify the watchers, return the revision; raises `StorageFull`."""
        self._check_space(key, value)
        self.revision += 1
        self._stored[key] = _Stored(KvEntry(key, value, self.revision), self.clock())
        self._notify(KvEvent(KvOperation.PUT, key, value, self.revision))
        return self.revision

    def remove(self, key: str) -> None:
        """Remove an entry, and notify the watchers."""
        self.revision += 1
        del self._stored[key]
        self._notify(KvEvent(KvOperation.DELETE, key, revision=self.revision))

    def _check_space(self, key: str, value: bytes) -> None:
        if self.max_bytes is None:
            return
        others = sum(len(each) + len(stored.entry.value) for each, stored in self._stored.items() if each != key)
        if others + len(key) + len(value) > self.max_bytes:
            raise StorageFull(f"a bucket of at most {self.max_bytes} bytes has no room for {key!r}")

    def _notify(self, event: KvEvent) -> None:
        for notify in self.watchers:
            notify(event)

    def _expire(self) -> None:
        if self.ttl is None:
            return
        oldest = self.clock() - self.ttl
        for key in [key for key, stored in self._stored.items() if stored.written_at <= oldest]:
            del self._stored[key]
