"""What an import leaves that is killed is removed at the next start, and nothing that a running import uses."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmos.leftovers import DOWNLOAD_DAYS
from shared.service.python import python_module
from tests.support.harness.embedded import Embedded, until
from tests.support.models.hf_files import write_hf
from tests.support.models.llama_files import write_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


FILES = 4
"""Of the version: graph, weights, tokenizer, template."""


@contextmanager
def importing(system: Embedded, source: Path, temporary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An import that runs beside the test."""
    command = python_module("llmos", "model", "import", str(source), "--name", "m", "--home", str(system.home.root))
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def blobs(system: Embedded) -> list[Path]:
    return [path for path in (system.home.store / "blobs").rglob("*") if path.is_file()]


def test_a_killed_import_is_cleaned_up_after_at_the_next_start(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    system = Embedded(tmp_path / "home", demo=False, env={"TMPDIR": str(temporary)})
    source = write_hf(tmp_path / "tiny", write_llama(tmp_path / "tiny.gguf", tied=False), dtype="BF16", shards=2)
    with system:
        # Killed while it waits for the registry: everything is uploaded, and there is no version.
        registry = system.pid_of("registry")
        with importing(system, source, temporary) as process:
            until(lambda: any(temporary.glob("llmos-import-*/.version.*")), 120, "converting")
            os.kill(registry, signal.SIGSTOP)
            until(lambda: len(blobs(system)) == FILES, 60, "uploaded")
            process.kill()
            process.wait()
        os.kill(registry, signal.SIGKILL)
        (left,) = temporary.glob("llmos-import-*")
    old, young = system.home.downloads / "org--old@main", system.home.downloads / "org--young@main"
    for folder in (old, young):
        folder.mkdir()
        (folder / "model.safetensors.partial").write_bytes(b"a part")
    changed = (old / "model.safetensors.partial").stat().st_mtime - (DOWNLOAD_DAYS + 1) * 86400
    for path in (old / "model.safetensors.partial", old):
        os.utime(path, (changed, changed))
    assert len(blobs(system)) == FILES
    with system:
        assert not left.exists()
        assert not old.exists()
        assert young.exists()
        assert blobs(system) == []
        assert list(system.home.imports.iterdir()) == []
        done = system.cli("model", "import", str(source), "--name", "m")
        assert done.returncode == 0, done.stderr
        assert list(system.home.imports.iterdir()) == list(temporary.glob("llmos-import-*")) == []
