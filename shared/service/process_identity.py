"""Which process a stored pid means: pids are used again, and a process that has ended keeps its pid as a zombie.

A process is named by its pid and its *birth*: the time of its start, and the machine and pid namespace in which the
pid counts. No two processes share both.
"""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, distinguishable from all that had its pid before or get it later."""

    pid: int
    birth: str
    """Empty where it was not recorded: then the process counts as unknown."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None if there is none, or only a zombie."""
        born = birth(pid)
        return cls(pid, born) if born else None

    @classmethod
    def own(cls) -> Self:
        """This process."""
        own = cls.of(os.getpid())
        assert own is not None, "this process lives"
        return own

    def lives(self) -> bool:
        """Whether this very process runs here."""
        return bool(self.birth) and birth(self.pid) == self.birth

    def has_ended(self) -> bool:
        """Whether it is certain that the process has ended; False for one of another machine or container."""
        if not self.birth or self.birth.rpartition("/")[0] != _namespace():
            return False
        now = birth(self.pid)
        return now != self.birth and (now is not None or not _is_hidden(self.pid))

    def send_signal(self, number: signal.Signals) -> bool:
        """Signal the process and no other; False if it has ended.

        Raises:
            PermissionError: It belongs to another user.
        """
        descriptor = None
        with suppress(AttributeError, OSError):  # not Linux, an old kernel, or it has ended
            descriptor = os.pidfd_open(self.pid)
        try:
            if not self.lives():
                return False
            if descriptor is None:
                os.kill(self.pid, number)
            else:  # means the process whose birth was compared, even if it has ended since
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return True


def birth(pid: int) -> str | None:
    """When and where the process was started, as text to compare; None if it has ended, zombies included."""
    if not (_PROC / "self/stat").exists():
        return _birth_from_ps(pid)
    try:
        # proc(5): pid (comm) state ppid …; starttime is field 22. The name may hold spaces and brackets.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {b"Z", b"X"} else f"{_namespace()}/{fields[19].decode()}"


def _birth_from_ps(pid: int) -> str | None:
    """The same on systems without /proc (macOS, BSD), to the second."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, started = done.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else f"{_namespace()}/{' '.join(started.split())}"


@cache
def _namespace() -> str:
    """Where pids count: the boot of the machine and the pid namespace, as far as the system names them."""
    boot = pids = ""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        pids = (_PROC / "self/ns/pid").readlink().name
    return f"{boot}/{pids}"


def _is_hidden(pid: int) -> bool:
    """Whether there is a process that /proc does not show: another user's, with the mount option `hidepid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return not (_PROC / str(pid)).exists()
    return False
