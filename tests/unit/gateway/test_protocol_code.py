"""The code of the gRPC messages is what the compiler writes from their description."""

import subprocess
import sys

from services.gateway.open_inference.rpc import open_inference_pb2
from tests.support.harness.compose import ROOT

DESCRIPTION = "services/gateway/open_inference/rpc/open_inference.proto"


def test_the_code_is_what_the_compiler_writes(tmp_path):
    command = [
        sys.executable,
        "-P",
        "-m",
        "grpc_tools.protoc",
        "-I.",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    subprocess.run([*command, DESCRIPTION], cwd=ROOT, check=True, timeout=60)
    for ending in ("_pb2.py", "_pb2.pyi"):
        name = DESCRIPTION.removesuffix(".proto") + ending
        assert (ROOT / name).read_text() == (tmp_path / name).read_text(), "run `make protocol`"


def test_names_and_numbers_are_the_protocols():
    """Of the fields that clients set most, as the published description numbers them."""
    request = open_inference_pb2.ModelInferRequest.DESCRIPTOR
    assert request.full_name == "inference.ModelInferRequest"
    assert {field.name: field.number for field in request.fields} == {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    }
    response = open_inference_pb2.ModelInferResponse.DESCRIPTOR
    assert {field.name: field.number for field in response.fields}["raw_output_contents"] == 6
