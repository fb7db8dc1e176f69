"""The routes of the Open Inference Protocol."""

from collections.abc import Callable

from services.gateway.http.operation import OBJECT, OCTETS, Content, Operation
from services.gateway.open_inference.api import OpenInferenceApi
from services.gateway.open_inference.dialect import OPEN_INFERENCE
from services.gateway.open_inference.inference import Inference
from services.gateway.open_inference.models import Models
from services.gateway.open_inference.requests import PARAMETERS, InferBody

_TAG = "inference"
_TENSORS: Content = {**OBJECT, **OCTETS}
"""JSON, or JSON with bytes behind it."""
_MODEL = "/v2/models/{model}"


def routes(
    models: Models, inference: Inference, reasons: Callable[[], tuple[str, ...]], max_body: int
) -> list[Operation]:
    """The operations.

    Args:
        models: The deployments.
        inference: Answers requests.
        reasons: Why the gateway can't serve now; empty when it can.
        max_body: Bytes of a request's JSON at most.
    """
    api = OpenInferenceApi(models, inference, reasons, max_body)
    gets = [
        ("/v2", api.server, "The server's name, version and extensions"),
        ("/v2/health/live", api.live, "Whether the process lives"),
        ("/v2/health/ready", api.ready, "Whether it can serve"),
        *((path, api.model, "The tensors that a model takes and returns") for path in _paths("")),
        *((path, api.model_ready, "Whether a model can take requests") for path in _paths("/ready")),
    ]
    return [
        *(Operation("GET", path, handler, summary, _TAG, dialect=OPEN_INFERENCE) for path, handler, summary in gets),
        *(
            Operation(
                "POST",
                path,
                api.infer,
                "The outputs of a model for the tensors of a request",
                _TAG,
                body=InferBody,
                result=_TENSORS,
                dialect=OPEN_INFERENCE,
                parameters=PARAMETERS,
            )
            for path in _paths("/infer")
        ),
    ]


def _paths(end: str) -> tuple[str, str]:
    return _MODEL + end, _MODEL + "/versions/{version}" + end
