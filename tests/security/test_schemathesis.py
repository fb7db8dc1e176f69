"""A foreign fuzzer (schemathesis) with LLMOS's own OpenAPI document finds no operation that fails.

An opt-in test: `LLMOS_TEST_SCHEMATHESIS=/path/to/st`, of `pip install schemathesis` in an environment of its own.
"""

import os
import subprocess

import pytest

from tests.support.harness.embedded import Embedded

PROGRAM = os.environ.get("LLMOS_TEST_SCHEMATHESIS", "")
SECONDS = int(os.environ.get("LLMOS_TEST_SCHEMATHESIS_SECONDS", "120"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not PROGRAM, reason="LLMOS_TEST_SCHEMATHESIS names no program: schemathesis is not installed")
def test_no_operation_of_the_document_is_ever_our_fault(tmp_path) -> None:
    checks = "not_a_server_error,status_code_conformance,response_schema_conformance"
    with Embedded(tmp_path / "home", demo=False) as system:
        done = subprocess.run(
            [
                PROGRAM, "run", f"{system.url}/llmos/v1/openapi.json",
                "--header", f"Authorization: Bearer {system.key}",
                "--checks", checks, "--max-time", str(SECONDS), "--no-color",
            ],
            env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS + 240,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Coverage" in done.stdout, "its phases ran"
