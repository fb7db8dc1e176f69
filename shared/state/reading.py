"""Reads all buckets of control state at one moment."""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson
from pydantic import JsonValue

from shared.bus.access.stored import BUCKETS
from shared.bus.port import Bus, KvEntry
from shared.contracts.state import FORMAT, BucketState, ControlState, StateRecord, SystemRecord
from shared.errors import Unavailable
from shared.version import llmos_version

CONTROL_BUCKETS = tuple(bucket.name for bucket in BUCKETS if bucket.is_control_state)
_GIVE_UP_S = 30.0
"""Two readings take some 10 ms: with a hundred changes a second every tenth pair is equal."""

_NOUNS = {
    "LLMOS_MODELS": "model",
    "LLMOS_DATASETS": "dataset",
    "LLMOS_REPORTS": "report",
    "LLMOS_DEPLOYMENTS": "deployment",
    "LLMOS_TENANTS": "API key",
    "LLMOS_JOBS": "job",
    "LLMOS_FILES": "file",
}


async def read_state(
    bus: Bus, system: SystemRecord | None, now: datetime, *, revisions: Mapping[str, int] | None = None
) -> ControlState:
    """The control state of one moment: all buckets are read again until none has changed meanwhile.

    Args:
        bus: A connection that may read all buckets.
        system: Whose state it is; None: of before format 1.
        now: In UTC.
        revisions: By bucket: the newest changes, deletions included, that the caller knew before this call.

    Raises:
        Unavailable: Something changes all the time.
    """
    before: dict[str, list[KvEntry]] = {}
    deadline = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < deadline:
        read = await asyncio.gather(*(bus.kv(name).entries() for name in CONTROL_BUCKETS))
        found = dict(zip(CONTROL_BUCKETS, read, strict=True))
        if found == before:
            return ControlState(
                format=FORMAT if system else 0,
                llmos=llmos_version(),
                system=system.id if system else "",
                bus=system.bus if system else "",
                taken_at=now,
                buckets={
                    name: bucket_state(entries, (revisions or {}).get(name, 0)) for name, entries in found.items()
                },
            )
        before = found
    raise Unavailable("control state changed all the time while it was read; try again", retry_after=1.0)


def bucket_state(entries: Sequence[KvEntry], revision: int = 0) -> BucketState:
    """Entries as a document; `revision` is a change that is known besides theirs."""
    records = tuple(
        StateRecord(key=entry.key, revision=entry.revision, value=_document(entry.value)) for entry in entries
    )
    return BucketState(revision=max([revision, *(record.revision for record in records)]), records=records)


def record_bytes(record: StateRecord) -> bytes:
    """A record as it is stored in its bucket."""
    match record.value:
        case {"base64": str(text)}:
            return base64.b64decode(text)
        case value:
            return orjson.dumps(value)


def _document(value: bytes) -> JsonValue:
    try:
        document: JsonValue = orjson.loads(value)
    except orjson.JSONDecodeError:  # nothing of ours; carried all the same
        return {"base64": base64.b64encode(value).decode()}
    return document


def summary(state: ControlState) -> str:
    """`1 model, 2 deployments, 3 API keys, 1 alias`; `nothing`."""
    counts = {_NOUNS.get(name, name): len(bucket.records) for name, bucket in state.buckets.items()}
    counts["alias"] = sum(_aliases(record.value) for bucket in state.buckets.values() for record in bucket.records)
    return ", ".join(plural(count, noun) for noun, count in counts.items() if count) or "nothing"


def _aliases(value: JsonValue) -> int:
    aliases = value.get("aliases") if isinstance(value, dict) else None
    return len(aliases) if isinstance(aliases, dict) else 0


def plural(count: int, noun: str) -> str:
    """`2 deployments`."""
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"
