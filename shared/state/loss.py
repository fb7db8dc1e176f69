"""What a bus no longer has of a snapshot. Pure: listings in, sentences out.

nats-server drops what it can't read: a record, the end of a file, or a whole stream, and says so in its log at most.
Revisions only go up, so a bucket whose revision is lower than a snapshot's has lost changes. A record that is gone
was deleted, which is a change too: more records are gone than there were changes only where records were lost.
"""

from collections.abc import Mapping

from shared.bus.nats.kv import WholeBucket
from shared.contracts.state import BucketState, ControlState
from shared.state.reading import plural

_NAMED = 3
"""Records that a sentence names."""


def losses(snapshot: ControlState | None, found: Mapping[str, WholeBucket]) -> list[str]:
    """A sentence for each bucket that has lost something; empty: none is known to have.

    Args:
        snapshot: The newest of this bus.
        found: What its buckets hold now.
    """
    return [
        sentence
        for name, bucket in found.items()
        if (sentence := _loss(name, snapshot.buckets.get(name) if snapshot else None, bucket)) is not None
    ]


def _loss(name: str, before: BucketState | None, now: WholeBucket) -> str | None:
    keys = {entry.key for entry in now.entries}
    gone = [record.key for record in before.records if record.key not in keys] if before else []
    if before is not None and now.revision < before.revision:
        return f"{name} is at change {now.revision} and was at {before.revision}{_named(gone)}"
    if now.unreadable:
        return f"{plural(now.unreadable, 'record')} of {name} can't be read{_named(gone)}"
    if before is not None and len(gone) > now.revision - before.revision:
        return f"{name} has lost {plural(len(gone), 'record')}{_named(gone)}"
    return None


def _named(keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return f" (without {', '.join(keys[:_NAMED])}{more})"
