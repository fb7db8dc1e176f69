"""A line for each check."""

import time
from collections.abc import Callable

Check = Callable[[], str]
"""Looks at one thing: returns what it found, in words, or raises `AssertionError` with what is wrong."""


class Report:
    """Runs checks and prints what came of each, at once."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = 0

    def check(self, name: str, look: Check) -> bool:
        """Run one; whether it passed."""
        began = time.monotonic()
        try:
            found, verdict = look(), "ok"
            self.passed += 1
        except Exception as error:  # noqa: BLE001  # one check must not keep the others from being made
            found, verdict = f"{type(error).__name__}: {error}", "FAILED"
            self.failed.append(name)
        print(f"{verdict:6} {time.monotonic() - began:6.1f} s  {name}: {found}", flush=True)
        return verdict == "ok"


def expect(true: bool, otherwise: str) -> None:
    """Raise `AssertionError` unless `true`; unlike `assert` it holds with -O, too."""
    if not true:
        raise AssertionError(otherwise)


def eventually(true: Callable[[], bool], timeout: float, what: str) -> float:
    """Wait until it is true; the seconds that took. Raises `TimeoutError`."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout:
            raise TimeoutError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began
