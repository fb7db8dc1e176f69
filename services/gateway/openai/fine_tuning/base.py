"""Which version a model's name means: what a deployment serves, or a reference of the registry."""

from services.gateway.control_plane import ControlPlane
from services.gateway.routing.live_table import LiveTable
from shared.contracts.base import Empty
from shared.contracts.registry import MODELS, ModelVersion, ResolveReference
from shared.errors import InvalidInput, ModelNotFound, NotFound

_SHOWN = 20


async def base_version(name: str, table: LiveTable, control: ControlPlane) -> ModelVersion:
    """The version of a decoder.

    Raises:
        ModelNotFound: There is none; the message names those that exist.
        InvalidInput: It is an encoder.
    """
    deployment = table.deployments.get(name)
    reference = f"{deployment.model}:{deployment.version}" if deployment is not None else name
    try:
        version = await control.call(MODELS.resolve, ResolveReference(reference=reference))
    except (NotFound, InvalidInput) as error:
        raise ModelNotFound(
            f"there is no model {name[:80]!r}: neither a deployment nor a version; {await _there(table, control)}",
            param="model",
        ) from error
    if not version.manifest.generates:
        raise InvalidInput(
            f"{name[:80]!r} is a model for task {version.manifest.task!r}; only decoders are fine-tuned;"
            f" {await _there(table, control)}",
            param="model",
        )
    return version


async def _there(table: LiveTable, control: ControlPlane) -> str:
    served = sorted(name for name, one in table.deployments.items() if one.task == "generate")
    models = [record.name for record in (await control.call(MODELS.list, Empty())).models if record.versions]
    return f"deployments: {_few(served)}; models in the registry: {_few(models)}"


def _few(names: list[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"
