"""Responses: JSON with elements in lists, or behind the JSON as bytes."""

import math
from typing import Any

import orjson
from starlette.responses import Response

from services.gateway.open_inference.inference import InferResponse
from services.gateway.open_inference.json_tensors import MAX_JSON_ELEMENTS, to_json
from services.gateway.open_inference.models import Metadata
from services.gateway.open_inference.requests import BINARY_SIZE, HEAD_LENGTH, InferBody
from shared.contracts.tensor import TensorType
from shared.errors import PayloadTooLarge


def infer_response(request: InferBody, found: InferResponse) -> Response:
    """The answer to a request, each output in the form that it asks for.

    Raises:
        PayloadTooLarge: There are more elements than JSON is to carry.
        InvalidInput: JSON has no form for an element.
    """
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    elements = 0
    for tensor, buffer in zip(found.outputs, found.buffers, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if request.binary(tensor.name):
            output["parameters"] = {BINARY_SIZE: len(buffer)}
            raw.append(buffer)
        else:
            elements += math.prod(tensor.shape)
            if elements > MAX_JSON_ELEMENTS:
                raise PayloadTooLarge(
                    f"the outputs have more than {MAX_JSON_ELEMENTS} elements, the limit of JSON; ask for them as"
                    " binary_data",
                    param="outputs",
                )
            output["data"] = to_json(tensor, buffer)
        outputs.append(output)
    content = {
        "model_name": found.model,
        **({"model_version": found.version} if found.version else {}),
        **({"id": request.id} if request.id is not None else {}),
        "outputs": outputs,
    }
    head = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return Response(head, media_type="application/json")
    headers = {HEAD_LENGTH: str(len(head))}
    return Response(b"".join((head, *raw)), media_type="application/octet-stream", headers=headers)


def metadata(found: Metadata, platform: str) -> dict[str, Any]:
    """What is told of a model."""
    return {
        "name": found.name,
        "versions": list(found.versions),
        "platform": platform,
        "inputs": [_tensor(put) for put in found.inputs],
        "outputs": [_tensor(put) for put in found.outputs],
    }


def _tensor(put: TensorType) -> dict[str, Any]:
    return {"name": put.name, "datatype": put.datatype, "shape": list(put.shape)}
