"""One request of the protocol, whatever it came over: to a graph with named tensors, or to an encoder."""

from dataclasses import dataclass

from services.gateway.dispatch.encodings import Encodings
from services.gateway.dispatch.tensors import Tensors
from services.gateway.open_inference.models import Models
from services.gateway.open_inference.texts import Outputs, chosen, classes, embeddings, read_texts
from shared.contracts.scheduler import Deployment
from shared.contracts.tensor import Tensor
from shared.telemetry import genai


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request. Elements are buffers, one for each input (`shared.contracts.tensor`)."""

    model: str
    version: str
    """Empty: any."""
    inputs: tuple[Tensor, ...]
    buffers: tuple[bytes, ...]
    outputs: tuple[str, ...] = ()
    """Empty: all."""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class InferResponse:
    """The answer, with a buffer for each output."""

    model: str
    version: str
    """Empty where replicas of two versions may have answered parts of it."""
    outputs: tuple[Tensor, ...]
    buffers: tuple[bytes, ...]


class Inference:
    """Answers requests.

    Args:
        models: The deployments.
        tensors: Ask graphs with named tensors.
        encodings: Ask encoders.
    """

    def __init__(self, models: Models, tensors: Tensors, encodings: Encodings) -> None:
        self._models = models
        self._tensors = tensors
        self._encodings = encodings

    async def infer(self, request: InferRequest) -> InferResponse:
        """The outputs; raises as `Tensors.infer`, and `NotFound` for an unknown version."""
        deployment = self._models.deployment(request.model)
        if deployment.task in ("embed", "classify"):
            return await self._encode(deployment, request)
        inferred = await self._tensors.infer(
            request.model,
            request.inputs,
            request.buffers,
            outputs=request.outputs,
            tenant=request.tenant,
            of=self._models.of(deployment, request.version),
        )
        return InferResponse(request.model, str(inferred.version), inferred.outputs, inferred.buffers)

    async def _encode(self, deployment: Deployment, request: InferRequest) -> InferResponse:
        texts = read_texts(request.inputs, request.buffers)
        embeds = deployment.task == "embed"
        operation = genai.OPERATION_EMBEDDINGS if embeds else genai.OPERATION_CLASSIFY
        of = self._models.of(deployment, request.version)
        with self._encodings.working(operation, "infer", request.model, request.tenant, of=of) as work:
            outputs: Outputs
            if embeds:
                outputs = embeddings(await self._encodings.embed(work, texts, None, None))
            else:
                outputs = classes(await self._encodings.classify(work, texts))
        found = chosen(outputs, request.outputs).values()
        version = request.version or self._models.only_version(deployment)
        return InferResponse(
            request.model, version, tuple(tensor for tensor, _ in found), tuple(buffer for _, buffer in found)
        )
