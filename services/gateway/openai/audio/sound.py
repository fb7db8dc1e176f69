"""A file of sound as samples."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from shared.errors import CorruptFile, Overloaded
from shared.service.python import python_module, safe_path

RATE = 16_000
"""Samples a second."""
SAMPLE_BYTES = 2
MAX_S = 2 * 3600.0
"""Of one file."""
_TIMEOUT_S = 180.0
_REFUSED = 3
_PASSED = ("PATH", "PYTHONPATH", "TMPDIR", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples in a temporary file.

    Attributes:
        file: 16-bit little-endian samples of one channel, `RATE` a second.
        samples: How many.
    """

    file: IO[bytes]
    samples: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / RATE

    def read(self, start: int, count: int) -> bytes:
        """Up to `count` samples from `start` on."""
        return os.pread(self.file.fileno(), count * SAMPLE_BYTES, start * SAMPLE_BYTES)


class Decoding:
    """Decodes files, a few at once, each in a process of its own with limits of time and memory."""

    def __init__(self, at_once: int = 2) -> None:
        self._turns = asyncio.Semaphore(at_once)

    async def decode(self, source: IO[bytes], target: IO[bytes]) -> Sound:
        """The samples of the file `source`, written to `target`.

        Raises:
            CorruptFile: It is no sound, or too long.
            Overloaded: It could not be decoded in time.
        """
        source.seek(0)
        command = python_module("services.gateway.openai.audio.decode", str(MAX_S))
        environment = safe_path({name: os.environ[name] for name in _PASSED if name in os.environ})
        environment["OPENBLAS_NUM_THREADS"] = "1"  # each thread reserves memory, which is limited
        async with self._turns:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=source, stdout=target, stderr=asyncio.subprocess.PIPE, env=environment
            )
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    _, errors = await process.communicate()
            except TimeoutError as error:
                raise Overloaded("the file could not be decoded in time; try again later", retry_after=5.0) from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            reason = errors.decode(errors="replace").strip()[:300]
            if process.returncode != _REFUSED:
                reason = "its decoder failed on it; send WAV, FLAC, MP3 or Ogg"
            raise CorruptFile(f"file: {reason}", param="file")
        return Sound(target, os.fstat(target.fileno()).st_size // SAMPLE_BYTES)


@contextmanager
def temporary_files() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Two files without names, gone at the end."""
    with tempfile.TemporaryFile(buffering=0) as first, tempfile.TemporaryFile(buffering=0) as second:
        yield first, second
