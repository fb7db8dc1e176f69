"""A command loads what it needs: only `llmos up` loads the bus, and only an import loads the converter."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.support.nats.server import free_port

HEAVY = {
    "devtools.convert",
    "devtools.data",
    "duckdb",
    "ftfy",
    "gguf",
    "grpc",
    "ml_dtypes",
    "nats",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "opentelemetry",
    "phonenumbers",
    "py3langid",
    "rensa",
    "safetensors",
    "services",
    "starlette",
    "tokenizers",
}
RUN = """
import json, sys
try:
    from llmos.cli import main
    main()
finally:
    sys.stderr.write("\\n" + json.dumps(sorted(sys.modules)))
"""


def modules_of(*arguments: str, code: int) -> set[str]:
    """The modules that a command has loaded at its end, when it exits with `code`."""
    command = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["status", "--help"], ["model", "import", "--help"], ["data", "prepare", "--help"]],
    ids=" ".join,
)
def test_help_loads_no_heavy_module(arguments):
    assert not HEAVY & modules_of(*arguments, code=0)


def test_status_loads_no_heavy_module(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    loaded = modules_of("status", "--url", url, "--api-key", "k", "--home", str(tmp_path), code=1)
    assert "httpx" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_a_heavy_module_exists(name):
    assert importlib.util.find_spec(name), "a misspelt name would let the tests above pass"
