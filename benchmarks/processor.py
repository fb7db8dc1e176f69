"""What stands beside every figure: the processor."""

import platform
from pathlib import Path


def processor_name() -> str:
    """As Linux tells it; else the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
