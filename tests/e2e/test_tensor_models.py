"""An ONNX graph with named tensors from its file to applications, on the system that everything shares."""

import grpc
import httpx
import numpy as np
import pytest

from services.gateway.open_inference.rpc import open_inference_pb2 as messages
from tests.support.harness.embedded import Embedded, until
from tests.support.models.tensor_graphs import linear, write_linear

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
X = np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32)


def test_a_graph_is_imported_deployed_and_asked_over_both_transports(demo, tmp_path):
    source = str(write_linear(tmp_path / "iris.onnx"))
    refused = demo.cli("model", "import", source, "--name", "iris")
    assert (refused.returncode, "--task tensor" in refused.stderr) == (1, True), refused.stderr
    refused = demo.cli("model", "import", source, "--name", "iris", "--task", "tensor", "--quantize", "int8")
    assert (refused.returncode, "leave --quantize int8 out" in refused.stderr) == (1, True), refused.stderr
    done = demo.cli("model", "import", source, "--name", "iris", "--task", "tensor")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("iris:1 ")
    again = demo.cli("model", "import", source, "--name", "iris", "--task", "tensor")
    assert "unchanged" in again.stdout
    shown = demo.cli("model", "show", "iris").stdout
    assert "x FP32 [-1, 4] -> y FP32 [-1, 3], best INT64 [-1]" in shown
    try:
        refused = demo.cli("deploy", "iris", "--max-len", "8")
        assert (refused.returncode, "no tokens" in refused.stderr) == (1, True), refused.stderr
        deployed = demo.cli("deploy", "iris", "--max-batch", "8", "--max-delay-ms", "1")
        assert deployed.returncode == 0, deployed.stderr
        headers = {"authorization": f"Bearer {demo.key}"}
        with httpx.Client(base_url=demo.url, headers=headers, timeout=30) as client:
            until(lambda: client.get("/v2/models/iris/ready").status_code == 200, 60, "a replica of iris is ready")
            over_http(demo, client)
        over_grpc(demo)
    finally:
        demo.cli("undeploy", "iris")
        demo.cli("model", "delete", "iris", "--yes")
    assert "iris" not in [model["name"] for model in demo.json("model", "list")]


def over_http(demo: Embedded, client: httpx.Client) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.tolist()}]}
    response = client.post("/v2/models/iris/infer", json=body)
    assert response.status_code == 200, response.text
    y = response.json()["outputs"][0]
    np.testing.assert_allclose(np.reshape(y["data"], y["shape"]), linear(X), rtol=1e-6)
    trace = response.headers["x-trace-id"]
    shown = until(lambda: _whole(demo.cli("trace", trace).stdout), 20, "the trace is whole")
    assert "infer iris" in shown


def _whole(shown: str) -> str:
    return shown if all(span in shown for span in ("route", "replica iris", "compute")) else ""


def over_grpc(demo: Embedded) -> None:
    put = messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2, 4])
    request = messages.ModelInferRequest(model_name="iris", inputs=[put], raw_input_contents=[X.tobytes()])
    with grpc.insecure_channel(f"127.0.0.1:{demo.grpc_port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        response = infer(request, metadata=(("x-api-key", demo.key),), timeout=30)
    np.testing.assert_allclose(
        np.frombuffer(response.raw_output_contents[0], "<f4").reshape(2, 3), linear(X), rtol=1e-6
    )
