"""The faults. Each is there while its context is entered."""

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.faults.system import System, until

_PAGE = 4096
Make = Callable[[System], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Args:
        name: As the table has it.
        make: Its context.
        replicas: How many the deployment has.
        ends: Whether leaving the context ends it; False: only LLMOS can, so it is timed from its begin.
    """

    name: str
    make: Make
    replicas: int = 1
    ends: bool = True


@contextmanager
def full_disk(system: System) -> Iterator[None]:
    """Another program fills the disk to the last byte, again whenever something is freed."""
    filler = system.home.root.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        fill(file.fileno())
        try:
            yield
        finally:
            filler.unlink()


def fill(descriptor: int) -> None:
    """Write until nothing fits."""
    size = 1 << 20
    while size:
        try:
            os.write(descriptor, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2


@contextmanager
def read_only(system: System) -> Iterator[None]:
    """The home can be read and not be written."""
    home = str(system.home.root)
    subprocess.run(["mount", "--bind", home, home], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def stopped(name: str, *, goes_on: bool = True) -> Make:
    """SIGSTOP of a process, by its name of `System.children`; `goes_on`: SIGCONT at the end."""

    @contextmanager
    def make(system: System) -> Iterator[None]:
        pid = system.launcher if name == "launcher" else system.children()[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):  # it was killed, and another one started
                if goes_on:
                    os.kill(pid, signal.SIGCONT)

    return make


@contextmanager
def all_stopped(system: System) -> Iterator[None]:
    """SIGSTOP of every process, as when a machine sleeps."""
    system.signal_all(signal.SIGSTOP)
    try:
        yield
    finally:
        system.signal_all(signal.SIGCONT)


def few_files(name: str) -> Make:
    """A process may open no file more than it has."""

    @contextmanager
    def make(system: System) -> Iterator[None]:
        pid = system.children()[name]
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        open_now = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    return make


@contextmanager
def no_memory(system: System) -> Iterator[None]:
    """The replica gets no byte of memory more than it has."""
    pid = system.children()["replica-0"]
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (psutil.Process(pid).memory_info().vms, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, before)


@contextmanager
def memory_at_its_limit(system: System) -> Iterator[None]:
    """The replica's control group has no room for another page: the kernel kills it, as in a container."""
    with _memory_group() as group:
        (group / "cgroup.procs").write_text(str(system.children()["replica-0"]))
        yield


@contextmanager
def _memory_group() -> Iterator[Path]:
    """A control group of version 1 or 2 with room for one page beside what its processes have already."""
    root = Path("/sys/fs/cgroup")
    parent, limit = (root / "memory", "memory.limit_in_bytes") if (root / "memory").is_dir() else (root, "memory.max")
    group = parent / f"llmos-fault-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(_PAGE))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        raise PermissionError(f"a control group with a limit of memory can't be made here: {error}") from error
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (parent / "cgroup.procs").write_text(pid)
        until(lambda: _is_removed(group), 30, f"{group} is empty")


def _is_removed(group: Path) -> bool:
    with suppress(OSError):  # a process that was killed is still ending
        group.rmdir()
    return not group.exists()


FAULTS = (
    Fault("the disk is full", full_disk),
    Fault("the home is read-only", read_only),
    Fault("the only replica is stopped", stopped("replica-0", goes_on=False), ends=False),
    Fault("one of two replicas is stopped", stopped("replica-0", goes_on=False), replicas=2, ends=False),
    *(
        Fault(f"{name} is stopped", stopped(name))
        for name in ("registry", "scheduler", "monitor", "inference", "gateway", "nats-server", "launcher")
    ),
    Fault("every process is stopped", all_stopped),
    Fault("the gateway may open no more files", few_files("gateway")),
    Fault("nats-server may open no more files", few_files("nats-server")),
    Fault("the replica gets no more memory", no_memory),
    Fault("the replica's memory is at its limit", memory_at_its_limit, ends=False),
)
