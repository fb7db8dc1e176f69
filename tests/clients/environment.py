"""Where programs run: a virtual environment, or a folder of npm's, made once for each set of packages."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.program import Program

INSTALL_TIMEOUT_S = 900.0
_COMPLETE = ".complete"


class NotInstalled(Exception):
    """A client that cannot be installed here; says why."""


def cache() -> Path:
    """The folder of all environments: `LLMOS_CLIENTS_CACHE`, by default in the user's cache."""
    if named := os.environ.get("LLMOS_CLIENTS_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmos-clients"


def command(program: Program, folder: Path) -> list[str]:
    """The command that runs a program, installed if need be; raises `NotInstalled`.

    Args:
        program: What to run.
        folder: Of all environments.
    """
    digest = hashlib.sha256("\n".join(program.packages).encode()).hexdigest()[:12]
    name = program.client[0].strip("@").replace("/", "-")
    environment = folder / f"{'python' if program.is_python else 'node'}-{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not (environment / _COMPLETE).exists():
            shutil.rmtree(environment, ignore_errors=True)
            _install(program, environment)
            (environment / _COMPLETE).touch()
    if program.is_python:
        return [str(environment / "bin/python"), "-P", str(program.path)]
    copied = environment / program.path.name  # Node.js looks for packages beside the file
    shutil.copyfile(program.path, copied)
    return ["node", str(copied)]


def _install(program: Program, environment: Path) -> None:
    if program.is_python:
        _run(sys.executable, "-P", "-m", "venv", str(environment))
        pip = (
            str(environment / "bin/python"),
            "-P",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
        )
        _run(*pip, *program.packages)
        return
    if shutil.which("npm") is None:
        raise NotInstalled("there is no npm on this machine")
    environment.mkdir()
    (environment / "package.json").write_text("{}")
    _run("npm", "install", "--prefix", str(environment), "--no-audit", "--no-fund", "--save-exact", *program.packages)


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"{words[0]} took more than {INSTALL_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalled(said[-1] if said else f"{words[0]} ended with {done.returncode}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
