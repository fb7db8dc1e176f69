"""The six methods of `inference.GRPCInferenceService`."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

from services.gateway.auth import RPC_PATH
from services.gateway.open_inference.api import EXTENSIONS, NAME
from services.gateway.open_inference.inference import Inference, InferRequest
from services.gateway.open_inference.models import PLATFORM, Models
from services.gateway.open_inference.rpc import open_inference_pb2 as messages
from services.gateway.open_inference.rpc.calls import Call, Method
from services.gateway.open_inference.rpc.contents import check_request, read_tensors
from shared.contracts.tensor import TensorType

_INLINE_BYTES = 1 << 16
"""Larger messages are converted in a thread."""


class Service:
    """The methods.

    Args:
        models: The deployments.
        inference: Answers requests.
        reasons: Why the gateway can't serve now; empty when it can.
    """

    def __init__(self, models: Models, inference: Inference, reasons: Callable[[], tuple[str, ...]]) -> None:
        self._models = models
        self._inference = inference
        self._reasons = reasons

    def methods(self) -> dict[str, Method]:
        """All of them by their full names."""
        found = {
            "ServerLive": Method(messages.ServerLiveRequest, self._live, open=True),
            "ServerReady": Method(messages.ServerReadyRequest, self._ready, open=True),
            "ServerMetadata": Method(messages.ServerMetadataRequest, self._server),
            "ModelReady": Method(messages.ModelReadyRequest, self._model_ready),
            "ModelMetadata": Method(messages.ModelMetadataRequest, self._model),
            "ModelInfer": Method(messages.ModelInferRequest, self._infer, reads=False),
        }
        return {RPC_PATH + name: method for name, method in found.items()}

    async def _live(self, _: messages.ServerLiveRequest, _call: Call) -> messages.ServerLiveResponse:
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, _: messages.ServerReadyRequest, _call: Call) -> messages.ServerReadyResponse:
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
        if request.ByteSize() > _INLINE_BYTES:
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
