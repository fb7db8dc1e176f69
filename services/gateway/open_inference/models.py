"""Which models and versions the protocol knows: the deployments."""

from dataclasses import dataclass

from services.gateway.dispatch.tensors import Of, Tensors
from services.gateway.routing.live_table import LiveTable
from shared.contracts.scheduler import Deployment
from shared.contracts.tensor import TensorType
from shared.errors import ModelNotFound, NotFound, Unavailable

PLATFORM = "onnx_onnxv1"
"""Triton's name for ONNX Runtime."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is told of a model."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


class Models:
    """The deployments as models.

    Args:
        table: Knows them.
        tensors: Ask their replicas.
    """

    def __init__(self, table: LiveTable, tensors: Tensors) -> None:
        self._table = table
        self._tensors = tensors

    def deployment(self, name: str) -> Deployment:
        """A deployment; raises `ModelNotFound` naming those that exist."""
        deployment = self._table.deployments.get(name)
        if deployment is None:
            existing = ", ".join(sorted(self._table.deployments)) or "none is deployed yet"
            raise ModelNotFound(f"the model {name!r:.200} does not exist; models: {existing}", param="model")
        return deployment

    def served(self, deployment: Deployment) -> list[tuple[str, int]]:
        """(model, version) of what is served under a name, the desired one first: two while replicas are replaced."""
        others = {
            (status.model, status.version)
            for status in self._table.replicas.values()
            if status.deployment == deployment.name
        }
        desired = (deployment.model, deployment.version)
        return [desired, *sorted(others - {desired})]

    def of(self, deployment: Deployment, version: str) -> Of:
        """The (model, version) that a request names; None where it names none.

        Raises:
            NotFound: It is not served; names those that are.
        """
        if not version:
            return None
        served = self.served(deployment)
        for each in served:
            if str(each[1]) == version:
                return each
        known = ", ".join(str(number) for _, number in served)
        raise NotFound(
            f"the model {deployment.name!r} has no version {version!r:.40}; it has {known}", param="model_version"
        )

    def only_version(self, deployment: Deployment) -> str:
        """The version that answers; empty while there are two."""
        served = self.served(deployment)
        return str(served[0][1]) if len(served) == 1 else ""

    def check_ready(self, name: str, version: str) -> None:
        """Raise `NotFound` for an unknown model or version, and `Unavailable` while none of it is ready."""
        deployment = self.deployment(name)
        self._table.choose(name, of=self.of(deployment, version), task=deployment.task)

    def ready(self, name: str, version: str) -> bool:
        """Whether a model can take requests; raises `NotFound`."""
        try:
            self.check_ready(name, version)
        except Unavailable:
            return False
        return True

    async def metadata(self, name: str, version: str) -> Metadata:
        """What a model takes and returns.

        Raises:
            NotFound: There is no such model or version.
            InvalidInput: It generates text: it has no tensors.
            Unavailable: No replica of it can be asked now.
        """
        deployment = self.deployment(name)
        task = deployment.task if deployment.task in ("embed", "classify") else "tensor"
        described = await self._tensors.describe(name, task, self.of(deployment, version))
        versions = tuple(str(number) for _, number in self.served(deployment))
        return Metadata(name, versions, described.inputs, described.outputs)
