"""`/v1/models`: the deployments, as OpenAI lists models."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.responses import json_response
from services.gateway.routing.live_table import LiveTable
from shared.contracts.scheduler import Deployment
from shared.errors import ModelNotFound


class ModelsApi:
    """The names that requests may give as `model`."""

    def __init__(self, table: LiveTable) -> None:
        self._table = table

    async def list(self, _request: Request) -> Response:
        """All deployments, by name."""
        models = [self._model(deployment) for _, deployment in sorted(self._table.deployments.items())]
        return json_response({"object": "list", "data": models})

    async def show(self, request: Request) -> Response:
        """One deployment; raises `ModelNotFound` naming those that exist."""
        name = request.path_params["model"]
        deployment = self._table.deployments.get(name)
        if deployment is None:
            existing = ", ".join(sorted(self._table.deployments)) or "none is deployed yet"
            raise ModelNotFound(f"the model {name!r} does not exist; models: {existing}", param="model")
        return json_response(self._model(deployment))

    def _model(self, deployment: Deployment) -> dict[str, Any]:
        return {
            "id": deployment.name,
            "object": "model",
            "created": int(deployment.created_at.timestamp()),
            "owned_by": "llmos",
            "root": f"{deployment.model}:{deployment.version}",
            "max_model_len": deployment.options.max_len,
            "task": deployment.task,
            "ready_replicas": self._table.ready(deployment.name),
        }
