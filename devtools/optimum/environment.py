"""The environment in which optimum runs: made by venv and pip, with pinned versions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Internal, NotFound

PINS = (
    "optimum==2.1.0",
    "optimum-onnx==0.1.0",
    "transformers==4.57.6",
    "torch==2.13.0",
    "sentencepiece==0.2.1",
)
"""These resolve together (pip, Python 3.11 on x86-64 Linux, 2026-11-30)."""
FORMAT = 1
"""Of what the export writes. It is raised whenever the same checkpoint would become another version than before."""
_STAMP = "llmos-tool"


@dataclass(frozen=True, slots=True)
class OptimumEnvironment:
    """A virtual environment.

    Attributes:
        root: Its folder.
    """

    root: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.root / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it holds the versions that this LLMOS wants; a broken or older one does not."""
        stamp = self.root / _STAMP
        return self.python.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == _stamp()

    def require(self) -> None:
        """Raise `NotFound`, with the command, unless it is installed."""
        if not self.installed:
            raise NotFound(
                f"--with optimum: optimum is not installed in {self.root}; run 'llmos tool install optimum' (1.2 GB)",
                param="with",
            )

    def install(self, say: Callable[[str], None], *, extra_index: str | None = None) -> None:
        """Make it with pip, which uses the network as this user's pip is configured; on any failure nothing is left.

        Args:
            say: Called with lines of progress.
            extra_index: A package index beside pip's own, such as PyTorch's of builds for CPUs.

        Raises:
            Internal: pip failed; its last line is in the message.
        """
        partial = self.root.with_name(f".{self.root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            say(f"making {self.root}")
            _run([sys.executable, "-P", "-m", "venv", str(partial)], say)
            pip = [
                str(partial / "bin" / "python"),
                "-P",
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ]
            further = [] if extra_index is None else ["--extra-index-url", extra_index]
            _run([*pip, *further, *PINS], say)
            (partial / _STAMP).write_text(_stamp(), encoding="utf-8")
            shutil.rmtree(self.root, ignore_errors=True)
            partial.rename(self.root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def remove(self) -> bool:
        """Delete it; whether it was there."""
        there = self.root.is_dir()
        shutil.rmtree(self.root, ignore_errors=True)
        return there


def offline_variables(scratch: Path) -> dict[str, str]:
    """The environment variables of a program that runs in it: no secrets, no network, no caches of the user's."""
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return passed | {
        "HOME": str(scratch),
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "PYTHONNOUSERSITE": "1",
    }


def _run(command: list[str], say: Callable[[str], None]) -> None:
    last = ""
    with subprocess.Popen(  # noqa: S603  # our own words and paths
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            if line.startswith(("Collecting", "Downloading", "Installing", "Successfully")):
                say(line.strip())
    if process.returncode:
        raise Internal(f"the installation failed ({' '.join(command[1:4])}): {last}")


def _stamp() -> str:
    return "\n".join(PINS)
