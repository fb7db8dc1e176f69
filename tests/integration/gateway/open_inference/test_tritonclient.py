"""tritonclient on its defaults, over both transports. Asked for by an environment variable: it is in no lock.

LLMOS_TEST_TRITONCLIENT names the Python of an environment with `tritonclient[http,grpc]`.
"""

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.integration.gateway.conftest import ADMIN_KEY
from tests.support.clients import __path__ as programs
from tests.support.models.tensor_graphs import linear

PYTHON = os.environ.get("LLMOS_TEST_TRITONCLIENT")
X = np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32)
pytestmark = pytest.mark.skipif(PYTHON is None, reason="LLMOS_TEST_TRITONCLIENT names no Python with tritonclient")


async def test_tritonclient(stand, serve, graphs, gateway_settings):
    for version in graphs:
        await serve(version)
    program = str(Path(programs[0]) / "triton.py")
    addresses = (stand.url.removeprefix("http://"), f"127.0.0.1:{gateway_settings['grpc_port']}")
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), "-P", program, *addresses, ADMIN_KEY, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0
    found = json.loads(output)
    for transport in ("http", "grpc"):
        said = found[transport]
        assert [said[each] for each in ("live", "ready", "model_ready", "version_ready")] == [True] * 4
        np.testing.assert_allclose(said["y"], linear(X), rtol=1e-6)
        assert said["best"] == linear(X).argmax(axis=1).tolist()
        assert said["only"] == [said["y"], None]
        assert said["greeting"] == ["grüezi zoë", "who?"]
        assert "expected FP32 [any, 4], got FP32 [2, 3]" in said["error"][0]
        assert said["large"]
        assert said["server"]["name"] == "llmos"
        assert said["model"]["inputs"][0]["name"] == "x"
    assert found["http"]["error"][1] == "400"
    assert found["grpc"]["error"][1] == "StatusCode.INVALID_ARGUMENT"
    np.testing.assert_allclose(found["http"]["in_json"], linear(X), rtol=1e-6)
