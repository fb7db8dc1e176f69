"""One story for a watcher out of several tellings of a bucket. Pure."""

from collections import deque

from shared.bus.port import KvEvent, KvOperation


class Telling:
    """What a watcher is told, and whether that is all.

    After a lost connection the bucket is told anew, as another run. Events of a run that is over are left out, and
    what was told once but not again is told as deleted before `SYNCED`.
    """

    def __init__(self) -> None:
        self.run = 0
        """The telling under way."""
        self._synced_run = -1
        self._arrived: deque[tuple[int, KvEvent]] = deque()
        self._known: set[str] = set()
        self._told: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether this run's `SYNCED` was read, and everything since."""
        return self._synced_run == self.run and not self._arrived

    def end_run(self) -> None:
        """What comes after this is told anew."""
        self.run += 1
        self._told.clear()

    def add(self, run: int, event: KvEvent) -> None:
        """An event from the server, in order; ignored when its run is over."""
        if run == self.run:
            self._arrived.append((run, event))

    def read(self) -> KvEvent | None:
        """The next event for the watcher, or None when there is none yet."""
        while self._arrived:
            run, event = self._arrived.popleft()
            if run != self.run:
                continue
            if event.operation is KvOperation.PUT:
                self._known.add(event.key)
                self._told.add(event.key)
            elif event.operation is KvOperation.DELETE:
                self._known.discard(event.key)
                self._told.discard(event.key)
            elif vanished := self._known - self._told:
                self._arrived.appendleft((run, event))
                self._arrived.extendleft(
                    (run, KvEvent(KvOperation.DELETE, key)) for key in sorted(vanished, reverse=True)
                )
                continue
            else:
                self._synced_run = run
            return event
        return None
