"""Turns the request to deploy into the record of the desired state. Pure."""

from datetime import datetime

from shared.contracts.manifest import Manifest
from shared.contracts.registry import VersionInfo
from shared.contracts.scheduler import Deploy, Deployment, Resources
from shared.errors import InvalidInput

DEFAULT_MAX_LEN = 4096
PREFIX_CACHE_SHARE = 4
"""By default the prefix cache may hold a quarter of what the slots can hold."""
PREFIX_CACHE_MAX = 1 << 30
"""Bytes; by default never more."""


def desired(request: Deploy, version: VersionInfo, before: Deployment | None, now: datetime) -> Deployment:
    """The record that `request` asks for; `before` itself where it already stands there.

    Raises:
        InvalidInput: `max_len` is above the model's context length, or the version has no graph for the device.
    """
    context_length = version.manifest.context_length
    if request.max_len is not None and request.max_len > context_length:
        raise InvalidInput(
            f"max_len {request.max_len} is above the context length of {version.reference}, "
            f"which is {context_length} tokens",
            param="max_len",
        )
    manifest = version.manifest
    if request.device == "cuda" and manifest.cuda is None:
        raise InvalidInput(
            f"{version.reference} has no graph for CUDA; import the model again with --cuda, or use --device cpu",
            param="device",
        )
    max_len = request.max_len or min(context_length, DEFAULT_MAX_LEN)
    cache, threads = _prefix_cache(request, manifest, max_len), request.threads or 0
    on_gpu = None
    if manifest.cuda is not None and request.device != "cpu":
        gpu_memory = manifest.cuda.gpu.replica_bytes(slots=request.slots, max_len=max_len)
        on_gpu = Resources(memory=manifest.cuda.host + cache, threads=threads, gpu_memory=gpu_memory)
    memory = manifest.memory.replica_bytes(slots=request.slots, max_len=max_len, prefix_cache=cache)
    fresh = Deployment(
        name=request.name or version.model,
        model=version.model,
        version=version.version,
        digest=version.digest,
        task=version.manifest.task,
        replicas=request.replicas,
        slots=request.slots,
        max_len=max_len,
        resources=Resources(memory=memory, threads=threads),
        device=request.device if on_gpu else "cpu",
        gpu_resources=on_gpu,
        prefix_cache_bytes=cache,
        draft_tokens=request.draft_tokens if manifest.task == "generate" else 0,
        generation=before.generation if before else 1,
        created_at=before.created_at if before else now,
    )
    if before is None or fresh == before:
        return fresh
    return fresh.model_copy(update={"generation": before.generation + 1})


def _prefix_cache(request: Deploy, manifest: Manifest, max_len: int) -> int:
    """Bytes; only what generates has prefixes to keep."""
    if manifest.task != "generate":
        return 0
    if request.prefix_cache is not None:
        return request.prefix_cache
    slots_hold = request.slots * max_len * manifest.memory.kv_per_token
    return min(slots_hold // PREFIX_CACHE_SHARE, PREFIX_CACHE_MAX)
