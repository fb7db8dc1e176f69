"""What stands beside every figure: the processor."""

import platform
from pathlib import Path

_FEATURES = {"avx2": "AVX2", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "asimddp": "dot products"}
"""What decides how fast products of small integers are; the name alone ("AMD EPYC") says little."""


def processor_name() -> str:
    """Its name and the instruction sets that matter here, from Linux; elsewhere the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    fields = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    name = next((value for name, value in fields if name == "model name"), platform.machine())
    flags = next((value.split() for name, value in fields if name in ("flags", "Features")), [])
    features = [shown for flag, shown in _FEATURES.items() if flag in flags]
    return f"{name} ({', '.join(features)})" if features else name
