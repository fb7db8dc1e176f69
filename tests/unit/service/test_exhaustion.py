"""No more open files, and kills for lack of memory."""

import subprocess
import sys

import pytest

from shared.service.exhaustion import SPARE, oom_kills, why_no_files

LIMIT = 40
ADVICE = "its limit is 40: raise it (ulimit -n) and start it again"
OPEN_AND_LOOK = """
import os, resource, sys
from shared.service.exhaustion import why_no_files
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
last = os.open("/", os.O_RDONLY)
while last < int(sys.argv[1]):
    last = os.open("/", os.O_RDONLY)
print(why_no_files())
"""


def look(last: int) -> str:
    """What a process with a limit of `LIMIT` files says that has all numbers up to `last`."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_LOOK, str(last)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (LIMIT - SPARE - 2, "None"),
        (LIMIT - SPARE - 1, f"it has about 32 files open; {ADVICE}"),
        (LIMIT - 1, f"it can open no more files: Too many open files; {ADVICE}"),
    ],
)
def test_a_process_without_files_to_spare_says_so(last: int, said: str) -> None:
    assert look(last) == said


def test_this_process_has_files_to_spare() -> None:
    assert why_no_files() is None


def test_kills_for_lack_of_memory_are_counted_by_the_system() -> None:
    assert (oom_kills() or 0) >= 0
