"""Turns the request to deploy into the record of the desired state. Pure."""

from datetime import datetime

from services.scheduler.policy.sizing import Size, asked_size
from shared.contracts.manifest import Manifest, MemoryNeed
from shared.contracts.registry import ModelVersion
from shared.contracts.resources import Resources
from shared.contracts.scheduler import Deploy, Deployment
from shared.contracts.serving import ReplicaOptions, ServingOptions
from shared.contracts.tensor import DEFAULT_BATCH
from shared.errors import Conflict, InvalidInput

PREFIX_CACHE_SHARE = 4
"""By default the prefix cache may hold a quarter of what the slots can hold."""
PREFIX_CACHE_MAX = 1 << 30
"""Bytes; by default never more."""


def desired(
    request: Deploy, version: ModelVersion, before: Deployment | None, now: datetime, size: Size | None = None
) -> Deployment:
    """The record that `request` asks for; `before` itself where it already stands there.

    What the request does not name stays as it was named before, unless it asks for a reset. `size` stands for slots
    and length where they were not named.

    Raises:
        Conflict: The deployment has another revision than the request expects.
        InvalidInput: `max_len` is above the model's context length, or the version has no graph for the device.
    """
    _check_revision(request.if_revision, before, request.name or version.name)
    manifest = version.manifest
    earlier = None if request.reset else before
    asked = _asked(request, earlier)
    options = _options(asked, version, size)
    slots, max_len, threads = options.slots, options.max_len, options.threads
    on_gpu = None
    if manifest.cuda is not None and options.device != "cpu":
        gpu_memory = manifest.cuda.gpu.replica_bytes(slots=slots, max_len=max_len)
        on_gpu = Resources(memory=manifest.cuda.host + options.prefix_cache, threads=threads, gpu_memory=gpu_memory)
    need = _for_batches(manifest.memory, options) if manifest.tensor is not None else manifest.memory
    memory = need.replica_bytes(slots=slots, max_len=max_len, prefix_cache=options.prefix_cache)
    fresh = Deployment(
        name=request.name or version.name,
        model=version.name,
        version=version.version,
        digest=version.digest,
        task=manifest.task,
        replicas=_replicas(request, earlier),
        options=options,
        asked=asked,
        resources=Resources(memory=memory, threads=threads),
        gpu_resources=on_gpu,
        created_at=now,
        changed_by=request.by,
    )
    return fresh if before is None else _following(before, fresh)


def rolled_back(before: Deployment, *, by: str, if_revision: int | None = None) -> Deployment:
    """The record of the previous revision, as a new one; raises `Conflict` if there is none."""
    _check_revision(if_revision, before, before.name)
    if before.previous is None:
        raise Conflict(f"{before.name} has had one revision only: there is nothing to go back to", param="name")
    return _following(before, before.previous.model_copy(update={"changed_by": by}))


def _following(before: Deployment, fresh: Deployment) -> Deployment:
    """`fresh` as the revision after `before`; `before` itself if it says the same."""
    own = {"revision", "created_at", "changed_by", "previous", "asked", "origin"}
    if fresh.model_dump(exclude=own) == before.model_dump(exclude=own):
        return before if before.asked == fresh.asked else before.model_copy(update={"asked": fresh.asked})
    return fresh.model_copy(
        update={
            "revision": before.revision + 1,
            "created_at": before.created_at,
            "previous": before.model_copy(update={"previous": None}),
        }
    )


def _check_revision(expected: int | None, before: Deployment | None, name: str) -> None:
    there = before.revision if before else 0
    if expected is None or expected == there:
        return
    by = f", made by {before.changed_by}" if before and before.changed_by else ""
    found = f"it has revision {there}{by}" if there else "there is no such deployment"
    raise Conflict(f"revision {expected} of {name} was expected, and {found}", param="if_revision")


def _asked(request: Deploy, before: Deployment | None) -> ServingOptions:
    """All that was named: by the request, and before."""
    named = request.model_dump(include=set(ServingOptions.model_fields), exclude_none=True)
    if before is None:
        return ServingOptions(**named)
    earlier = before.options if before.asked is None else before.asked
    return ServingOptions(**earlier.model_dump(exclude_none=True) | named)


def _replicas(request: Deploy, before: Deployment | None) -> int:
    if request.replicas is not None:
        return request.replicas
    return before.replicas if before else 1


def _options(asked: ServingOptions, version: ModelVersion, size: Size | None) -> ReplicaOptions:
    """The options that are asked for; those left open are set, and those without effect on this version are off."""
    manifest = version.manifest
    if asked.max_len is not None and manifest.tensor is not None:
        raise InvalidInput(
            f"{version.reference} takes tensors, which have no tokens; leave max_len out", param="max_len"
        )
    if asked.max_len is not None and asked.max_len > manifest.context_length:
        raise InvalidInput(
            f"max_len {asked.max_len} is above the context length of {version.reference}, "
            f"which is {manifest.context_length} tokens",
            param="max_len",
        )
    if asked.device == "cuda" and manifest.cuda is None:
        raise InvalidInput(
            f"{version.reference} has no graph for CUDA; import the model again with --cuda, or use --device cpu",
            param="device",
        )
    named = asked.model_dump(exclude_none=True)
    slots, max_len = size or asked_size(asked, manifest)
    named.setdefault("slots", slots)
    named.setdefault("max_len", max_len)
    options = ReplicaOptions(**named)
    without_effect: dict[str, object] = {"prefix_cache": _prefix_cache(asked, options, manifest)}
    if manifest.cuda is None:
        without_effect["device"] = "cpu"
    if not manifest.generates:
        without_effect["draft_tokens"] = 0
    return options.model_copy(update=without_effect)


def _for_batches(need: MemoryNeed, options: ReplicaOptions) -> MemoryNeed:
    """What larger batches of rows than the manifest counts with take."""
    share = max(1.0, (options.max_batch or DEFAULT_BATCH) / DEFAULT_BATCH)
    return need.model_copy(update={"activations": int(need.activations * share)})


def _prefix_cache(asked: ServingOptions, options: ReplicaOptions, manifest: Manifest) -> int:
    """Bytes; only a decoder alone has prefixes to keep."""
    if not manifest.generates:
        return 0
    if asked.prefix_cache is not None:
        return asked.prefix_cache
    slots_hold = options.slots * options.max_len * manifest.memory.kv_per_token
    return min(slots_hold // PREFIX_CACHE_SHARE, PREFIX_CACHE_MAX)
