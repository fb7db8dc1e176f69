"""The six methods of `inference.GRPCInferenceService`, and the check of gRPC's health."""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from grpc_health.v1.health_pb2 import HealthCheckResponse

from services.gateway.auth import RPC_PATH
from services.gateway.open_inference.api import EXTENSIONS, NAME
from services.gateway.open_inference.inference import Inference, InferRequest
from services.gateway.open_inference.models import PLATFORM, Models
from services.gateway.open_inference.rpc import open_inference_pb2 as messages
from services.gateway.open_inference.rpc.calls import INLINE_BYTES, Call, Method
from services.gateway.open_inference.rpc.contents import check_request, read_tensors
from services.gateway.open_inference.rpc.wire import parse_infer
from shared.contracts.tensor import TensorType

HEALTH_CHECK = "/grpc.health.v1.Health/Check"


class Service:
    """The methods.

    Args:
        models: The deployments.
        inference: Answers requests.
        reasons: Why the gateway can't serve now; empty when it can.
        max_body: Bytes of a request at most that are no raw contents.
    """

    def __init__(
        self, models: Models, inference: Inference, reasons: Callable[[], tuple[str, ...]], max_body: int
    ) -> None:
        self._models = models
        self._inference = inference
        self._reasons = reasons
        self._max_body = max_body

    def methods(self) -> dict[str, Method]:
        """All of them by their full names."""
        found = {
            "ServerLive": Method(self._live),
            "ServerReady": Method(self._ready),
            "ServerMetadata": Method(self._server, messages.ServerMetadataRequest.FromString),
            "ModelReady": Method(self._model_ready, messages.ModelReadyRequest.FromString),
            "ModelMetadata": Method(self._model, messages.ModelMetadataRequest.FromString),
            "ModelInfer": Method(self._infer, partial(parse_infer, limit=self._max_body), reads=False),
        }
        return {HEALTH_CHECK: Method(self._health)} | {RPC_PATH + name: method for name, method in found.items()}

    async def _health(self, _: None, _call: Call) -> HealthCheckResponse:
        """The state of the gateway, whatever service is asked for."""
        status = HealthCheckResponse.ServingStatus
        return HealthCheckResponse(status=status.NOT_SERVING if self._reasons() else status.SERVING)

    async def _live(self, _: None, _call: Call) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, _: None, _call: Call) -> messages.ServerReadyResponse:
        return messages.ServerReadyResponse(ready=not self._reasons())

    async def _server(self, _: messages.ServerMetadataRequest, _call: Call) -> messages.ServerMetadataResponse:
        return messages.ServerMetadataResponse(name=NAME, version=version("llmos"), extensions=EXTENSIONS)

    async def _model_ready(self, request: messages.ModelReadyRequest, call: Call) -> messages.ModelReadyResponse:
        call.model = request.name
        return messages.ModelReadyResponse(ready=self._models.ready(request.name, request.version))

    async def _model(self, request: messages.ModelMetadataRequest, call: Call) -> messages.ModelMetadataResponse:
        call.model = request.name
        found = await self._models.metadata(request.name, request.version)
        return messages.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=PLATFORM,
            inputs=map(_metadata, found.inputs),
            outputs=map(_metadata, found.outputs),
        )

    async def _infer(self, request: messages.ModelInferRequest, call: Call) -> messages.ModelInferResponse:
        call.model = request.model_name
        check_request(request)
        if request.ByteSize() > INLINE_BYTES:
            inputs, buffers = await asyncio.to_thread(read_tensors, request)
        else:
            inputs, buffers = read_tensors(request)
        found = await self._inference.infer(
            InferRequest(
                model=request.model_name,
                version=request.model_version,
                inputs=inputs,
                buffers=buffers,
                outputs=tuple(output.name for output in request.outputs),
                tenant=call.key_id,
            )
        )
        outputs = [
            messages.ModelInferResponse.InferOutputTensor(
                name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
            )
            for tensor in found.outputs
        ]
        return messages.ModelInferResponse(
            model_name=found.model,
            model_version=found.version,
            id=request.id,
            outputs=outputs,
            raw_output_contents=found.buffers,
        )


def _metadata(put: TensorType) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(name=put.name, datatype=put.datatype, shape=put.shape)
