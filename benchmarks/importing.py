"""What an import takes: time, memory beyond mapped files, and the size of the version beside that of the file.

    python -m benchmarks.importing [--gguf FILE] [--shape 1b|3b|8b]

Without a file, one of that shape with random weights is made first (`benchmarks.random_gguf`), in a temporary folder.
Prints one JSON line. `memory_mib` is the peak of the anonymous pages: mapped files are not in it, because the system
takes their pages back when it needs them.
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.processor import processor_name
from benchmarks.random_gguf import SHAPES, write_random_gguf
from devtools.convert import convert_gguf
from shared.contracts.manifest import Manifest


def main() -> None:
    """Measure one import."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as scratch:
        source = options.gguf or write_random_gguf(Path(scratch) / f"{options.shape}.gguf", SHAPES[options.shape])
        print(json.dumps(measure(source, Path(scratch) / "version")), flush=True)


def measure(source: Path, folder: Path) -> dict[str, object]:
    """Convert `source` into `folder`, in this process."""
    stages: dict[str, float] = {}

    def on_progress(stage: str, _fraction: float) -> None:
        stages[stage] = time.perf_counter()

    peak = _Peak()
    begin = time.perf_counter()
    manifest = peak.during(lambda: convert_gguf(source, folder, progress=on_progress))
    starts = [begin, *stages.values()]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "benchmark": "importing",
        "cpu": processor_name(),
        "file_mb": round(source.stat().st_size / 1e6),
        "size_ratio": round(manifest.size / source.stat().st_size, 3),
        "seconds": round(starts[-1] - begin, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "memory_mib": round(peak.bytes / (1 << 20)),
        **{
            f"{stage}_s": round(end - start, 1)
            for stage, start, end in zip(stages, starts, stages.values(), strict=False)
        },
    }


class _Peak:
    """The most anonymous memory that this process had, looked at fifty times a second (Linux)."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()

    def during(self, work: Callable[[], Manifest]) -> Manifest:
        """Call `work`, and watch."""
        watch = threading.Thread(target=self._watch)
        watch.start()
        try:
            return work()
        finally:
            self._over.set()
            watch.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            self.bytes = max(self.bytes, 1024 * int(status.split("RssAnon:")[1].split()[0]))


if __name__ == "__main__":
    main()
