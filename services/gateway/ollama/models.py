"""`/api/tags`, `/api/ps`, `/api/show` and `/api/version`: the deployments, as Ollama lists models.

The registry has the sizes, and a replica the template. Where one of them does not respond now, its fields are empty.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.control_plane import ControlPlane
from services.gateway.dispatch.tokenizations import Tokenizations
from services.gateway.http.body import parse_request, read_body
from services.gateway.http.responses import json_response
from services.gateway.ollama.requests import LATEST, ShowRequest, parse
from services.gateway.routing.live_table import LiveTable
from shared.contracts.base import Empty
from shared.contracts.manifest import Manifest
from shared.contracts.registry import MODELS, ResolveReference
from shared.contracts.scheduler import Deployment
from shared.contracts.tokenization import tokenizer_info_endpoint
from shared.errors import LlmosError, ModelNotFound
from shared.text.thinking import THINK_END
from shared.text.tool_form import takes_tools

API_VERSION = "0.12.11"
"""The version of Ollama whose API this is: clients look for features by it."""
_NEVER = "9999-12-31T23:59:59Z"
_ARCHITECTURE = "llmos"
MOST_MANIFESTS = 256
"""Manifests kept; they never change."""


class ModelsApi:
    """The deployments.

    Args:
        table: Knows them.
        tokenizations: Ask for their templates.
        control_plane: Asks the registry for their manifests.
        max_body: Bytes of a request at most.
    """

    def __init__(
        self, table: LiveTable, tokenizations: Tokenizations, control_plane: ControlPlane, max_body: int
    ) -> None:
        self._table = table
        self._tokenizations = tokenizations
        self._control_plane = control_plane
        self._max_body = max_body
        self._manifests: dict[str, Manifest] = {}
        """By digest."""

    async def tags(self, _request: Request) -> Response:
        """All deployments, by name."""
        return json_response({"models": await self._entries(self._deployments())})

    async def ps(self, _request: Request) -> Response:
        """The deployments that can answer now."""
        ready = [each for each in self._deployments() if self._table.ready(each.name)]
        running = {"expires_at": _NEVER}
        entries = zip(await self._entries(ready), ready, strict=True)
        models = [entry | running | {"context_length": each.options.max_len} for entry, each in entries]
        return json_response({"models": models})

    async def show(self, request: Request) -> Response:
        """One deployment; raises `ModelNotFound` naming those that exist."""
        body = await parse_request(request, partial(parse, ShowRequest), await read_body(request, self._max_body))
        name = body.model
        if (deployment := self._table.deployments.get(name)) is None:
            existing = ", ".join(sorted(self._table.deployments)) or "none is deployed yet"
            raise ModelNotFound(f"the model {name!r:.200} does not exist; models: {existing}", param="model")
        manifest, template = await self._manifest(deployment), ""
        with contextlib.suppress(LlmosError):
            info = await self._tokenizations.ask(name, tokenizer_info_endpoint, Empty())
            template = info.chat_template or ""
        return json_response(
            {
                "modelfile": f"# a deployment of LLMOS\nFROM {deployment.model}:{deployment.version}\n",
                "parameters": "" if manifest is None else _parameters(manifest),
                "template": template,
                "license": "" if manifest is None else manifest.lineage.license or "",
                "details": _details(manifest),
                "model_info": _info(deployment, manifest),
                "capabilities": _capabilities(deployment, template),
                "modified_at": deployment.created_at.isoformat(),
            }
        )

    async def version(self, _request: Request) -> Response:
        """The version of the API, and LLMOS's own."""
        return json_response({"version": API_VERSION, "llmos": version("llmos")})

    def _deployments(self) -> list[Deployment]:
        return [deployment for _, deployment in sorted(self._table.deployments.items())]

    async def _entries(self, deployments: Sequence[Deployment]) -> list[dict[str, Any]]:
        """The registry is asked for all at once: one that does not respond costs the time of one call."""
        return await asyncio.gather(*map(self._entry, deployments))

    async def _entry(self, deployment: Deployment) -> dict[str, Any]:
        manifest, name = await self._manifest(deployment), deployment.name + LATEST
        return {
            "name": name,
            "model": name,
            "modified_at": deployment.created_at.isoformat(),
            "size": 0 if manifest is None else sum(file.size for file in manifest.files),
            "digest": deployment.digest,
            "details": _details(manifest),
        }

    async def _manifest(self, deployment: Deployment) -> Manifest | None:
        """The version's; None while the registry does not respond, or no longer has it."""
        if (known := self._manifests.get(deployment.digest)) is not None:
            return known
        reference = ResolveReference(reference=f"{deployment.model}:{deployment.version}")
        try:
            found = await self._control_plane.call(MODELS.resolve, reference)
        except LlmosError:
            return None
        while len(self._manifests) >= MOST_MANIFESTS:
            self._manifests.pop(next(iter(self._manifests)))
        self._manifests[deployment.digest] = found.manifest
        return found.manifest


def _details(manifest: Manifest | None) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "onnx",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "" if manifest is None else manifest.lineage.quantization,
    }


def _parameters(manifest: Manifest) -> str:
    """The version's sampling defaults, a line each."""
    return "\n".join(f"{name:<30} {value}" for name, value in sorted(manifest.defaults.items()))


def _info(deployment: Deployment, manifest: Manifest | None) -> dict[str, Any]:
    """Clients look for the length of the context under the name of the architecture."""
    info: dict[str, Any] = {
        "general.architecture": _ARCHITECTURE,
        f"{_ARCHITECTURE}.context_length": deployment.options.max_len,
    }
    if manifest is not None and manifest.tensor is None:
        spec = manifest.text_spec if manifest.encoder is None else manifest.the_encoder
        info |= {
            f"{_ARCHITECTURE}.embedding_length": spec.hidden_size,
            f"{_ARCHITECTURE}.vocab_size": spec.vocab_size,
        }
    return info


def _capabilities(deployment: Deployment, template: str) -> list[str]:
    if deployment.task != "generate":
        return ["embedding"] if deployment.task == "embed" else []
    tools = ["tools"] if takes_tools(template) else []
    return ["completion", *tools, *(["thinking"] if THINK_END in template else [])]
