"""Builds the library of operators: `python -m operators.build`. Installing LLMOS does it too (`setup.py`).

The compiler is Zig's (Clang), which comes as a wheel, so that a machine without a C compiler can build, and all build
the same. It is needed when LLMOS is installed, not when it runs. `setup.py` runs this file when nothing else is
installed: it imports only what comes with Python.
"""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).resolve().parent
MAX_SHARDS = 128
"""Parts of one operator's work at most: enough to share evenly among 40 threads. Attention has scratch for each part,
all at once, which a replica's memory need counts."""
_FLAGS = (
    "-shared", "-fPIC", "-O3", "-std=c11", "-mcpu=baseline", "-ffp-contract=off", "-fvisibility=hidden", "-s",
    "-Wall", "-Wextra", "-Werror", "-rtlib=none", f"-DMAX_SHARDS={MAX_SHARDS}",
)  # fmt: skip
"""For any processor of the kind: the kernels with AVX2 or AVX-512 are chosen when a graph is loaded. Without
contraction the compiler fuses no operations of its own: the same bits from every build. Zig would first build a
runtime library of compiler helpers, which takes as long as the operators and which they don't use."""


def sources() -> list[Path]:
    """The C files and headers beside this file."""
    return sorted([*_HERE.glob("*.c"), *_HERE.glob("*.h")])


def is_current(library: Path) -> bool:
    """Whether the library is there and no older than its sources and this file, which has the flags."""
    made_of = [*sources(), Path(__file__)]
    return library.is_file() and library.stat().st_mtime >= max(path.stat().st_mtime for path in made_of)


def build(library: Path) -> None:
    """Compile the sources into `library`; raises RuntimeError with what the compiler printed, or if there is none."""
    if find_spec("ziglang") is None:
        raise RuntimeError("no compiler for the operators: `pip install --require-hashes -r requirements/build.lock`")
    code = [str(path) for path in sources() if path.suffix == ".c"]
    with tempfile.TemporaryDirectory() as cache:
        partial = Path(cache) / library.name
        done = subprocess.run(  # noqa: S603  # our own arguments
            [sys.executable, "-P", "-m", "ziglang", "cc", *_FLAGS, *code, "-o", str(partial), "-lm"],
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
    if not is_current(target):
        build(target)
        print(target)  # noqa: T201  # what a person who builds wants to know
