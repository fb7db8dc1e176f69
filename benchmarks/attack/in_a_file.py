"""What a model's files can do to whoever imports them, and a disk to whoever serves them."""

import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.attack.target import Outcome, Target
from shared.service.python import python_module
from shared.storage.layout import blob_key

MEMORY_BOUND = 400 << 20
"""Bytes that an import may take which reads nothing but a header; Python and its libraries take half of that."""
EVERY_S = 0.02
"""Between two looks at the memory of an import."""
_ARRAY, _UINT32 = 9, 4
_ELEMENTS = 200_000_000


def link_out_of_its_folder(target: Target) -> Outcome:
    """A folder whose weights are a link to the admin key."""
    with tempfile.TemporaryDirectory(prefix="llmos-attack-") as name:
        folder = Path(name)
        (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").symlink_to(target.home.root / "credentials.json")
        answer, _ = _llmos(target, "model", "import", str(folder), "--name", "stolen")
    return Outcome(answer[:90], "leads to" in answer)


def array_of_200_million(target: Target) -> Outcome:
    """A GGUF whose header has an array of 200 million numbers, which nobody asks for."""
    with tempfile.TemporaryDirectory(prefix="llmos-attack-") as name:
        path = Path(name) / "large.gguf"
        key = b"attack.numbers"
        with path.open("wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1))
            file.write(struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", _ARRAY, _UINT32, _ELEMENTS))
            file.truncate(file.tell() + 4 * _ELEMENTS)
        answer, memory = _llmos(target, "model", "import", str(path), "--name", "large")
    said = f"{answer[:60]} ({memory >> 20} MB)"
    return Outcome(said, answer.startswith("error:") and memory < MEMORY_BOUND)


def changed_byte_in_the_store(target: Target) -> Outcome:
    """A byte of a stored file is another one: the version is not handed out."""
    deployed = target.admin.deployment(target.model).deployment
    version = target.admin.models.version(f"{deployed.model}:{deployed.version}")
    file = max(version.manifest.files, key=lambda one: one.size)
    path = target.home.root / "store" / blob_key(file.digest)
    with tempfile.TemporaryDirectory(prefix="llmos-attack-") as name, _changed(path):
        copy = Path(name) / "copy"
        answer, _ = _llmos(target, "model", "export", version.reference, str(copy))
        handed_out = (copy / file.path).exists()
    return Outcome(answer[:90], answer.startswith("error:") and not handed_out)


@contextmanager
def _changed(path: Path) -> Iterator[None]:
    """Another first byte while the block runs."""
    mode = path.stat().st_mode
    path.chmod(mode | 0o200)

    def flip() -> None:
        with path.open("r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes([byte[0] ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()
        path.chmod(mode)


def _llmos(target: Target, *words: str) -> tuple[str, int]:
    """The last line that a command prints, and the most memory that it took, in bytes."""
    command = python_module("llmos", *words, "--home", str(target.home.root))
    with tempfile.TemporaryFile() as output:
        started = psutil.Popen(command, stdout=output, stderr=output)
        memory = 0
        while started.poll() is None:
            with suppress(psutil.Error):
                memory = max(memory, started.memory_info().rss)
            time.sleep(EVERY_S)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return (lines[-1] if lines else "", memory)


ATTACKS = (link_out_of_its_folder, array_of_200_million, changed_byte_in_the_store)
