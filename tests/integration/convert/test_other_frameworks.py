"""Models of scikit-learn and TensorFlow come in as ONNX graphs. Asked for by environment variables: no lock has them.

LLMOS_TEST_SKLEARN names the Python of an environment with `scikit-learn skl2onnx`, LLMOS_TEST_TENSORFLOW that of one
with `tensorflow-cpu tf2onnx`.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from devtools.convert.tensor.version import convert_tensor
from services.inference.runtime.onnx_tensors import OnnxTensors
from shared.errors import UnsupportedFormat
from tests.support.clients import __path__ as programs

SKLEARN, TENSORFLOW = os.environ.get("LLMOS_TEST_SKLEARN"), os.environ.get("LLMOS_TEST_TENSORFLOW")


def made(python: str, program: str, folder: Path) -> dict[str, list[object]]:
    """What the program says that its model gives; the graph lies in `folder`."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    command = [python, "-P", str(Path(programs[0]) / program), str(folder)]
    subprocess.run(command, env=environment, check=True, timeout=110)
    return json.loads((folder / "expected.json").read_text())


def served(folder: Path, tmp_path: Path):
    manifest = convert_tensor(folder / "model.onnx", tmp_path / "version")
    return manifest.the_tensor, OnnxTensors(tmp_path / "version", manifest.the_tensor, threads=1)


@pytest.mark.skipif(SKLEARN is None, reason="LLMOS_TEST_SKLEARN names no Python with scikit-learn and skl2onnx")
def test_a_pipeline_of_scikit_learn(tmp_path):
    expected = made(str(SKLEARN), "scikit_learn.py", tmp_path)
    spec, graph = served(tmp_path, tmp_path)
    assert [(put.datatype, put.shape) for put in (*spec.inputs, *spec.outputs)] == [
        ("FP32", (-1, 4)),
        ("INT64", (-1,)),
        ("FP32", (-1, 3)),
    ]
    assert spec.batched
    label, probabilities = (put.name for put in spec.outputs)
    inputs = {spec.inputs[0].name: np.array(expected["inputs"], np.float32)}
    outputs = graph.run(inputs, [label, probabilities])
    assert outputs[label].tolist() == expected["labels"]
    np.testing.assert_allclose(outputs[probabilities], expected["probabilities"], atol=1e-5)
    with pytest.raises(UnsupportedFormat, match="zipmap"):
        convert_tensor(tmp_path / "mapped.onnx", tmp_path / "other")


@pytest.mark.skipif(TENSORFLOW is None, reason="LLMOS_TEST_TENSORFLOW names no Python with tensorflow and tf2onnx")
def test_a_function_of_tensorflow(tmp_path):
    expected = made(str(TENSORFLOW), "tensorflow_graph.py", tmp_path)
    spec, graph = served(tmp_path, tmp_path)
    assert spec.batched
    inputs = {spec.inputs[0].name: np.array(expected["inputs"], np.float32)}
    name = spec.outputs[0].name
    np.testing.assert_allclose(graph.run(inputs, [name])[name], expected["scores"], atol=1e-5)
