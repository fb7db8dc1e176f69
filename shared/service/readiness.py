"""Whether a process can serve, and if not, why."""

from collections.abc import Callable

Probe = Callable[[], str | None]
"""Returns what is wrong now, or None."""


class Readiness:
    """Named problems; a process without any is ready.

    A problem is either `set` when it comes and goes, or returned by a probe at each look.
    """

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._probes: dict[str, Probe] = {}
        self._listeners: list[Callable[[], None]] = []

    def set(self, name: str, problem: str | None) -> None:
        """Record what is wrong with `name`, or None when it is well."""
        before = self._problems.get(name)
        if problem == before:
            return
        if problem is None:
            del self._problems[name]
        else:
            self._problems[name] = problem
        for listener in self._listeners:
            listener()

    def probe(self, name: str, probe: Probe) -> None:
        """Call `probe` for `name` whenever the reasons are read. It must be quick and not raise."""
        self._probes[name] = probe

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change made by `set`."""
        self._listeners.append(listener)

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, each as `name: problem`, by name."""
        problems = dict(self._problems)
        for name, probe in self._probes.items():
            problem = probe()
            if problem is not None:
                problems[name] = problem
        return tuple(f"{name}: {problem}" for name, problem in sorted(problems.items()))
