"""A foreign fuzzer (schemathesis) with LLMOS's own OpenAPI document finds no operation that fails.

Opt-in tests: `LLMOS_TEST_SCHEMATHESIS=/path/to/st`, of `pip install schemathesis` in an environment of its own.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.make_api_tables import operations
from tests.support.harness.compose import ROOT
from tests.support.harness.embedded import Embedded
from tests.support.models.tensor_graphs import write_linear

PROGRAM = os.environ.get("LLMOS_TEST_SCHEMATHESIS", "")
SECONDS = int(os.environ.get("LLMOS_TEST_SCHEMATHESIS_SECONDS", "120"))
MODEL, TENSORS = "fuzzed", "linear"
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 400),
    pytest.mark.skipif(not PROGRAM, reason="LLMOS_TEST_SCHEMATHESIS names no program: schemathesis is not installed"),
]


def fuzz(system: Embedded, folder: Path, *options: str, **environment: str) -> str:
    """What it printed; fails if it found anything."""
    done = subprocess.run(
        [
            PROGRAM, "run", f"{system.url}/llmos/v1/openapi.json",
            "--header", f"Authorization: Bearer {system.key}",
            "--checks", CHECKS, "--max-time", str(SECONDS), "--no-color", *options,
        ],
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Coverage" in done.stdout, "its phases ran"
    return done.stdout


def test_no_operation_of_the_document_is_ever_our_fault(tmp_path):
    with Embedded(tmp_path / "home", demo=False) as system:
        fuzz(system, tmp_path)


def test_no_request_to_a_model_in_any_dialect_is_ever_our_fault(tmp_path):
    """With a model, so that what is behind the routing is tried: few tokens, so that much is tried."""
    known = [each for routes in operations().values() for each in routes]
    paths, count = sorted({each.path for each in known}), len(known)
    chosen = [option for path in paths for option in ("--include-path", path)]
    with Embedded(tmp_path / "home", demo=True) as system:
        graph = str(write_linear(tmp_path / "linear.onnx"))
        for words in (
            ("deploy", "smollm2", "--name", MODEL, "--max-len", "64"),
            ("model", "import", graph, "--name", TENSORS, "--task", "tensor"),
            ("deploy", TENSORS),
        ):
            done = system.cli(*words)
            assert done.returncode == 0, done.stderr
        environment = {
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            "LLMOS_TEST_SCHEMATHESIS_MODEL": MODEL,
            "LLMOS_TEST_SCHEMATHESIS_TENSORS": TENSORS,
        }
        printed = fuzz(system, tmp_path, *chosen, "--request-timeout", "30", **environment)
        with system.http() as client:
            metrics = client.get("/metrics").text
    assert re.search(rf"Tested: +{count}\b", printed), printed
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"):
        assert re.search(rf'requests_total{{method="POST",model="{MODEL}",route="{path}",status="200"}}', metrics), (
            path
        )
