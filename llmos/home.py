"""The home folder: all state of an embedded system, and where each part of it lives."""

import fcntl
import os
import pwd
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import orjson
from pydantic import ValidationError

from shared.contracts.state import FORMAT, Stamp, SystemRecord, check_format
from shared.errors import InvalidInput
from shared.service.process_identity import ProcessIdentity
from shared.version import llmos_version

DEFAULT_HOME = Path("~/.llmos")

Stamped = TypeVar("Stamped", bound=Stamp)


class SystemState(Stamp):
    """A running embedded system, as it describes itself in `system.json`."""

    pid: int
    birth: str = ""
    """Of that process; a stranger may get its pid (`shared.service.process_identity`)."""
    url: str
    nats_url: str
    """Without credentials."""
    ready: bool = False
    """Whether all of the start, the demo included, is done."""


class Ports(Stamp):
    """Ports chosen at the first start and stored for the next ones."""

    http: int
    nats: int
    grpc: int = 0
    """0: chosen by an LLMOS that served no gRPC."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under one home folder. Only its owner may enter it."""

    root: Path

    @classmethod
    def named(cls, path: Path) -> "Home":
        """The home at `path`, which is not made: a command that only talks to a gateway leaves nothing behind."""
        root = _expanded(path).absolute()
        if root.is_file():
            raise InvalidInput(f"--home {root} is a file; give a folder", param="home")
        return cls(root)

    @classmethod
    def at(cls, path: Path) -> "Home":
        """The home at `path`, made if need be with mode 0700."""
        home = cls.named(path)
        home.make()
        return home

    def make(self) -> None:
        """Make the folder unless it is there; raises `InvalidInput`."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError as error:
            raise InvalidInput(f"--home {self.root} is a file; give a folder", param="home") from error
        except OSError as error:
            raise InvalidInput(f"--home {self.root} can't be made: {error.strerror}", param="home") from error

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self._folder("logs")

    @property
    def downloads(self) -> Path:
        """Models on their way in from the hub."""
        return self._folder("downloads")

    @property
    def imports(self) -> Path:
        """Journals of imports that run, or that ended without a version."""
        return self._folder("imports")

    @property
    def nats(self) -> Path:
        """JetStream's files and the server's configuration."""
        return self._folder("nats")

    @property
    def store(self) -> Path:
        """The directory store of model files."""
        return self._folder("store")

    @property
    def monitor(self) -> Path:
        """The monitor's database."""
        return self._folder("monitor")

    @property
    def cache(self) -> Path:
        """The node's local cache of model files."""
        return self._folder("cache")

    @property
    def jobs(self) -> Path:
        """The folders of jobs that run on this machine."""
        return self._folder("jobs")

    def tool(self, name: str) -> Path:
        """The environment of a tool, which may not be there."""
        return self._folder("tools") / name

    @property
    def backups(self) -> Path:
        """Backups that an upgrade made before it changed anything."""
        return self._folder("backups")

    @property
    def key_file(self) -> Path:
        """The admin key, mode 0600."""
        return self.root / "admin-key"

    @property
    def alerts_file(self) -> Path:
        """The rules of alerts, where a person has written some."""
        return self.root / "alerts.toml"

    @property
    def audit_heads(self) -> Path:
        """The ends of the chains of events, as `llmos audit verify` found them last; by gateway."""
        return self.root / "audit-heads.json"

    @property
    def lock_file(self) -> Path:
        """Locked while an embedded system runs, and names its process."""
        return self.root / "lock"

    @property
    def config_file(self) -> Path:
        """`LLMOS_*` settings, one name a line, in TOML."""
        return self.root / "config.toml"

    def _folder(self, name: str) -> Path:
        self.make()
        path = self.root / name
        try:
            path.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInput(
                f"--home {self.root} can't be written ({error.strerror}); give a folder of your own", param="home"
            ) from error
        return path

    def system(self) -> SystemState | None:
        """The system that serves from this home, or None."""
        holder = self.holder()
        if holder is None:
            return None
        state = self._read("system.json", SystemState)
        return state if state is not None and ProcessIdentity(state.pid, state.birth) == holder else None

    def record(self) -> SystemRecord | None:
        """Which system the home belongs to; None before its first start. Its format is that of the whole home.

        Raises `UnsupportedFormat` when a newer LLMOS wrote it.
        """
        return self._read("home.json", SystemRecord)

    def write_record(self, record: SystemRecord) -> None:
        """Say which system the home belongs to."""
        self._write("home.json", record)

    def _read(self, name: str, contract: type[Stamped]) -> Stamped | None:
        """A file of the home; None if it is not there or can't be read: each is written again."""
        path = self.root / name
        with suppress(FileNotFoundError, NotADirectoryError, ValidationError):
            data = path.read_bytes()
            check_format(Stamp.decode(data), str(path))
            return contract.decode(data)
        return None

    def _write(self, name: str, content: Stamp) -> None:
        stamped = content.model_copy(update={"format": FORMAT, "llmos": llmos_version()})
        write_private(self.root / name, stamped.model_dump_json(indent=2))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only `llmos up` of this home while inside; raises BlockingIOError if there is another."""
        with self.lock_file.open("a+") as lock:
            _lock_exclusively(lock)
            this = ProcessIdentity.own()
            lock.truncate(0)
            lock.write(orjson.dumps({"pid": this.pid, "birth": this.birth}).decode())
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def holder(self) -> ProcessIdentity | None:
        """The `llmos up` of this home that lives: from the beginning of its start to the end of its drain.

        A copy of a home has a copy of its lock file too, which names a process but is not locked by it.
        """
        if not self._lock_is_held():
            return None
        try:
            holder = ProcessIdentity(**orjson.loads(self.lock_file.read_bytes()))
        except (FileNotFoundError, orjson.JSONDecodeError, TypeError):  # none yet, or it is just being written
            return None
        return holder if holder.lives() else None

    def _lock_is_held(self) -> bool:
        """Whether a process has locked this very file."""
        try:
            with self.lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def write_system(self, state: SystemState) -> None:
        """Say that a system runs."""
        self._write("system.json", state)

    def clear_system(self) -> None:
        """Say that none runs."""
        (self.root / "system.json").unlink(missing_ok=True)

    def ports(self) -> Ports | None:
        """The ports of the last start."""
        return self._read("ports.json", Ports)

    def write_ports(self, ports: Ports) -> None:
        """Keep the ports for the next start."""
        self._write("ports.json", ports)

    def admin_key(self) -> str | None:
        """The admin key, if one was made."""
        with suppress(FileNotFoundError):
            return self.key_file.read_text().strip() or None
        return None

    def ensure_admin_key(self) -> str:
        """The admin key; made at the first start."""
        key = self.admin_key()
        if key is None:
            key = f"llmos-{secrets.token_urlsafe(32)}"
            write_private(self.key_file, key + "\n")
        return key

    def bus_passwords(self, users: list[str]) -> dict[str, str]:
        """One password per bus user; made at the first start."""
        path = self.nats / "passwords.json"
        known: dict[str, str] = {}
        with suppress(FileNotFoundError, orjson.JSONDecodeError):
            known = orjson.loads(path.read_bytes())
        missing = [user for user in users if user not in known]
        if missing:
            known |= {user: secrets.token_urlsafe(24) for user in missing}
            write_private(path, orjson.dumps(known).decode())
        return known


def _lock_exclusively(lock: IO[str]) -> None:
    """Take the lock; raises BlockingIOError if an `llmos up` has it. Who only looks has it for a moment."""
    for pause in (*[0.02] * 5, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return


def _expanded(path: Path) -> Path:
    """`path` with `~` replaced, also where HOME is empty or unset; raises `InvalidInput`."""
    try:
        if path.parts[:1] == ("~",) and not os.environ.get("HOME"):
            return Path(pwd.getpwuid(os.getuid()).pw_dir, *path.parts[1:])
        return path.expanduser()
    except (KeyError, RuntimeError) as error:
        raise InvalidInput(f"{path}: there is no such home; give --home or set HOME", param="home") from error


def write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
