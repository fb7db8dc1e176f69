"""Runs in an environment with TensorFlow and tf2onnx: makes a small network, and writes it as ONNX.

python tensorflow_graph.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx


def main(folder: Path) -> None:
    tf.random.set_seed(7)
    first = tf.Variable(tf.random.normal((9, 4)), name="first")
    second = tf.Variable(tf.random.normal((4, 2)), name="second")

    @tf.function(input_signature=[tf.TensorSpec((None, 9), tf.float32, name="pixels")])
    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.nn.softmax(tf.nn.relu(pixels @ first) @ second)}

    tf2onnx.convert.from_function(
        network, input_signature=network.input_signature, output_path=str(folder / "model.onnx")
    )
    pixels = np.linspace(-1, 1, 45).reshape(5, 9).astype(np.float32)
    expected = {"inputs": pixels.tolist(), "scores": network(pixels)["scores"].numpy().tolist()}
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
