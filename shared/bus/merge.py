"""Merges the runs of a watch into one sequence of events. Pure."""

from collections import deque

from shared.bus.port import KvEvent, KvOperation


class WatchMerge:
    """The events of a watch in order, and whether they are complete.

    After a lost connection the server sends the whole bucket again, as another run. Events of an earlier run are
    dropped. Keys of an earlier run that the new one lacks are deleted before its `SYNCED`.
    """

    def __init__(self) -> None:
        self.run = 0
        """The current run."""
        self._synced_run = -1
        self._arrived: deque[tuple[int, KvEvent]] = deque()
        self._known: set[str] = set()
        self._in_this_run: set[str] = set()

    @property
    def complete(self) -> bool:
        """Whether this run's `SYNCED` was read, and everything since."""
        return self._synced_run == self.run and not self._arrived

    def end_run(self) -> None:
        """The bucket is sent again from here on."""
        self.run += 1
        self._in_this_run.clear()

    def add(self, run: int, event: KvEvent) -> None:
        """An event from the server, in order; ignored when its run is over."""
        if run == self.run:
            self._arrived.append((run, event))

    def read(self) -> KvEvent | None:
        """The next event for the reader, or None when there is none yet."""
        while self._arrived:
            run, event = self._arrived.popleft()
            if run != self.run:
                continue
            if event.operation is KvOperation.PUT:
                self._known.add(event.key)
                self._in_this_run.add(event.key)
            elif event.operation is KvOperation.DELETE:
                if event.key not in self._known:
                    continue  # it was never seen, so nothing is gone
                self._known.discard(event.key)
                self._in_this_run.discard(event.key)
            elif vanished := self._known - self._in_this_run:
                self._arrived.appendleft((run, event))
                self._arrived.extendleft(
                    (run, KvEvent(KvOperation.DELETE, key)) for key in sorted(vanished, reverse=True)
                )
                continue
            else:
                self._synced_run = run
            return event
        return None
