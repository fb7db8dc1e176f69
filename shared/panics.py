"""Panics of libraries that are written in Rust.

PyO3 raises a panic as `PanicException`, which derives from `BaseException` and is a class of its own in each library.
`except Exception` does not see it: a handler ends without an answer, and a thread without a word. So calls of such
libraries turn panics into errors (`no_panics`), and the boundaries of services and threads, which must answer
whatever is raised, catch all but `STOPS`.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.errors import LlmosError

STOPS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""What ends a task or the process; everything else that is raised is an error."""


@contextmanager
def no_panics(make_error: Callable[[str], LlmosError]) -> Iterator[None]:
    """Raise `make_error(what the library says)` in the place of a panic; other errors pass."""
    try:
        yield
    except (Exception, *STOPS):
        raise
    except BaseException as panic:
        raise make_error(str(panic)[:200]) from panic
