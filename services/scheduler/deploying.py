"""Turns the request to deploy into the record of what is wanted. Pure."""

from datetime import datetime

from shared.contracts.registry import VersionInfo
from shared.contracts.scheduler import Deploy, Deployment, Resources
from shared.errors import InvalidInput

DEFAULT_MAX_LEN = 4096


def wanted(request: Deploy, version: VersionInfo, before: Deployment | None, now: datetime) -> Deployment:
    """The record that `request` asks for; `before` itself where it already stands there.

    Raises:
        InvalidInput: `max_len` is above the model's context length.
    """
    context_length = version.manifest.context_length
    if request.max_len is not None and request.max_len > context_length:
        raise InvalidInput(
            f"max_len {request.max_len} is above the context length of {version.reference}, "
            f"which is {context_length} tokens",
            param="max_len",
        )
    max_len = request.max_len or min(context_length, DEFAULT_MAX_LEN)
    memory = version.manifest.memory.replica_bytes(slots=request.slots, max_len=max_len)
    fresh = Deployment(
        name=request.name or version.model,
        model=version.model,
        version=version.version,
        digest=version.digest,
        task=version.manifest.task,
        replicas=request.replicas,
        slots=request.slots,
        max_len=max_len,
        resources=Resources(memory=memory, threads=request.threads or 0),
        generation=before.generation if before else 1,
        created_at=before.created_at if before else now,
    )
    if before is None or fresh == before:
        return fresh
    return fresh.model_copy(update={"generation": before.generation + 1})
