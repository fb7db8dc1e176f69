"""Runs in an environment with tritonclient: calls a gateway over both transports, and prints what came as JSON.

python triton.py HTTP_ADDRESS GRPC_ADDRESS KEY
"""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as rpc
from tritonclient import http
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 3, 4], [0, -1, 0, 1]], np.float32)


def use(client: Any, kind: Any, headers: dict[str, str]) -> dict[str, Any]:
    """What a client gets. It writes into the headers that it is given, so each call has its own."""
    said: dict[str, Any] = {
        "live": client.is_server_live(headers=dict(headers)),
        "ready": client.is_server_ready(headers=dict(headers)),
        "model_ready": client.is_model_ready("iris", headers=dict(headers)),
        "version_ready": client.is_model_ready("iris", "1", headers=dict(headers)),
    }
    x = kind.InferInput("x", X.shape, "FP32")
    x.set_data_from_numpy(X)
    found = client.infer("iris", [x], request_id="mine", headers=dict(headers))
    said["y"], said["best"] = found.as_numpy("y").tolist(), found.as_numpy("best").tolist()
    one = client.infer(
        "iris", [x], model_version="1", outputs=[kind.InferRequestedOutput("y")], headers=dict(headers)
    )
    said["only"] = [one.as_numpy("y").tolist(), one.as_numpy("best")]
    name, number = kind.InferInput("name", [2], "BYTES"), kind.InferInput("id", [2, 1], "INT64")
    name.set_data_from_numpy(np.array(["zoë".encode(), b"bob"], object))
    number.set_data_from_numpy(np.array([[4], [0]], np.int64))
    greeting = client.infer("greeter", [name, number], headers=dict(headers)).as_numpy("greeting")
    said["greeting"] = [each.decode() for each in greeting]
    wrong = kind.InferInput("x", [2, 3], "FP32")
    wrong.set_data_from_numpy(X[:, :3].copy())
    try:
        client.infer("iris", [wrong], headers=dict(headers))
    except InferenceServerException as error:
        said["error"] = [error.message(), error.status()]
    large = np.arange(10 << 20, dtype=np.float32).reshape(10, -1)
    x = kind.InferInput("x", large.shape, "FP32")
    x.set_data_from_numpy(large)
    said["large"] = bool((client.infer("echo", [x], headers=dict(headers)).as_numpy("y") == large).all())
    return said


def in_json(client: Any, headers: dict[str, str]) -> Any:
    """Without the binary extension."""
    x = http.InferInput("x", X.shape, "FP32")
    x.set_data_from_numpy(X, binary_data=False)
    y = http.InferRequestedOutput("y", binary_data=False)
    return client.infer("iris", [x], outputs=[y], headers=dict(headers)).as_numpy("y").tolist()


def main(http_address: str, grpc_address: str, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    with http.InferenceServerClient(http_address) as client:
        over_http = use(client, http, headers)
        over_http["server"] = client.get_server_metadata(headers=dict(headers))
        over_http["model"] = client.get_model_metadata("iris", headers=dict(headers))
        over_http["in_json"] = in_json(client, headers)
    with rpc.InferenceServerClient(grpc_address) as client:
        over_grpc = use(client, rpc, headers)
        over_grpc["server"] = client.get_server_metadata(headers=dict(headers), as_json=True)
        over_grpc["model"] = client.get_model_metadata("iris", headers=dict(headers), as_json=True)
    sys.stdout.write(json.dumps({"http": over_http, "grpc": over_grpc}))


if __name__ == "__main__":
    main(*sys.argv[1:])
