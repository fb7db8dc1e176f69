"""Runs in an environment with scikit-learn and skl2onnx: trains a classifier, and writes it as ONNX.

python scikit_learn.py FOLDER
"""

import json
import sys
from pathlib import Path

from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(folder: Path) -> None:
    features, labels = load_iris(return_X_y=True)
    features = features.astype("float32")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, labels)
    graph = to_onnx(model, features[:1], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    (folder / "mapped.onnx").write_bytes(to_onnx(model, features[:1]).SerializeToString())
    shown = features[::25]
    expected = {"inputs": shown.tolist(), "labels": model.predict(shown).tolist()}
    expected["probabilities"] = model.predict_proba(shown).tolist()
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
