"""Turns the request to deploy into the record of the desired state. Pure."""

from datetime import datetime

from shared.contracts.manifest import Manifest
from shared.contracts.registry import ModelVersion
from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deploy, Deployment
from shared.contracts.serving import ReplicaOptions, ServingOptions
from shared.errors import InvalidInput

DEFAULT_MAX_LEN = 4096
PREFIX_CACHE_SHARE = 4
"""By default the prefix cache may hold a quarter of what the slots can hold."""
PREFIX_CACHE_MAX = 1 << 30
"""Bytes; by default never more."""


def desired(request: Deploy, version: ModelVersion, before: Deployment | None, now: datetime) -> Deployment:
    """The record that `request` asks for; `before` itself where it already stands there.

    Raises:
        InvalidInput: `max_len` is above the model's context length, or the version has no graph for the device.
    """
    manifest = version.manifest
    options = _options(request, version)
    slots, max_len, threads = options.slots, options.max_len, options.threads or 0
    on_gpu = None
    if manifest.cuda is not None and options.device != "cpu":
        gpu_memory = manifest.cuda.gpu.replica_bytes(slots=slots, max_len=max_len)
        on_gpu = Resources(memory=manifest.cuda.host + options.prefix_cache, threads=threads, gpu_memory=gpu_memory)
    memory = manifest.memory.replica_bytes(slots=slots, max_len=max_len, prefix_cache=options.prefix_cache)
    fresh = Deployment(
        name=request.name or version.name,
        model=version.name,
        version=version.version,
        digest=version.digest,
        task=manifest.task,
        replicas=request.replicas,
        options=options,
        resources=Resources(memory=memory, threads=threads),
        gpu_resources=on_gpu,
        generation=before.generation if before else 1,
        created_at=before.created_at if before else now,
    )
    if before is None or fresh == before:
        return fresh
    return fresh.model_copy(update={"generation": before.generation + 1})


def _options(request: Deploy, version: ModelVersion) -> ReplicaOptions:
    """The options that are asked for; those left open are set, and those without effect on this version are off."""
    manifest = version.manifest
    if request.max_len is not None and request.max_len > manifest.context_length:
        raise InvalidInput(
            f"max_len {request.max_len} is above the context length of {version.reference}, "
            f"which is {manifest.context_length} tokens",
            param="max_len",
        )
    if request.device == "cuda" and manifest.cuda is None:
        raise InvalidInput(
            f"{version.reference} has no graph for CUDA; import the model again with --cuda, or use --device cpu",
            param="device",
        )
    options = request.model_dump(include=set(ServingOptions.model_fields))
    options["max_len"] = request.max_len or min(manifest.context_length, DEFAULT_MAX_LEN)
    options["prefix_cache"] = _prefix_cache(request, manifest, options["max_len"])
    if manifest.cuda is None:
        options["device"] = "cpu"
    if manifest.task != "generate":
        options["draft_tokens"] = 0
    return ReplicaOptions(**options)


def _prefix_cache(request: Deploy, manifest: Manifest, max_len: int) -> int:
    """Bytes; only what generates has prefixes to keep."""
    if manifest.task != "generate":
        return 0
    if request.prefix_cache is not None:
        return request.prefix_cache
    slots_hold = request.slots * max_len * manifest.memory.kv_per_token
    return min(slots_hold // PREFIX_CACHE_SHARE, PREFIX_CACHE_MAX)
