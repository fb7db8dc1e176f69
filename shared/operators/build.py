"""Builds the library of operators: `python -m shared.operators.build`.

The compiler is Zig's (Clang), which comes as a wheel, so that a machine without a C compiler can build, and all build
the same. It is needed when LLMOS is installed, not when it runs.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
_FLAGS = (
    "-shared", "-fPIC", "-O3", "-std=c11", "-mcpu=baseline", "-ffp-contract=off", "-fvisibility=hidden", "-s",
    "-Wall", "-Wextra", "-Werror",
)  # fmt: skip
"""For any processor of the kind: the kernels with AVX2 are chosen when a graph is loaded. Without contraction the
compiler fuses no operations of its own: the same bits from every build."""


def build(library: Path) -> None:
    """Compile the sources beside this file into `library`; raises RuntimeError with what the compiler printed."""
    sources = sorted(str(source) for source in _HERE.glob("*.c"))
    with tempfile.TemporaryDirectory() as cache:
        partial = Path(cache) / library.name
        done = subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *_FLAGS, *sources, "-o", str(partial), "-lm"],
            env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the operators do not compile:\n{done.stderr}")
        staged = library.with_suffix(".partial")
        staged.write_bytes(partial.read_bytes())
        staged.chmod(0o755)
        staged.replace(library)


if __name__ == "__main__":
    target = _HERE / "liboperators.so"
    build(target)
    print(target)  # noqa: T201  # what a person who builds wants to know
