"""Checks of stored bytes against their digests: one blob when asked, and all of them in the background (scrub).

The state of each scrub is in KV `LLMOS_SCRUBS`, by `scrub_key`.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Digest, Name

SCRUBS_BUCKET = "LLMOS_SCRUBS"
STORE = "store"
MAX_DAMAGED = 100
"""Damaged blobs that the record of a scrub names; the log and the events have all."""


class BlobState(StrEnum):
    """What a check of one blob found."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    """Its bytes do not hash to its digest, or can't be read."""
    MISSING = "missing"


class CheckBlob(Contract):
    """Read a blob and compare its bytes with its digest."""

    digest: Digest


class CheckedBlob(Contract):
    """What the check of a blob found."""

    state: BlobState
    size: int = Field(ge=0)
    """Bytes that were read."""


class DamagedBlob(Contract):
    """A blob that a scrub found damaged and has not seen whole since."""

    digest: Digest
    files: tuple[str, ...]
    """Whose bytes it has: `smollm2:1 model.onnx.data`."""
    found_at: datetime


class Scrub(Contract):
    """How far the scrub of the store, or of one node's cache, is."""

    place: str
    """`store`, or the node's id."""
    actor: str
    """The process that scrubs, by instance. Another goes on where it was when it has not renewed the record."""
    renewed_at: datetime
    began_at: datetime
    """The pass."""
    ended_at: datetime | None = None
    """The pass; None while it runs."""
    position: str = ""
    """The last digest that was checked; blobs are checked in the order of their digests."""
    blobs: int = 0
    """Checked in this pass."""
    bytes: int = 0
    """Of those."""
    damaged: tuple[DamagedBlob, ...] = ()


class ScrubList(Contract):
    """The store's scrub first, then those of nodes by their ids."""

    scrubs: tuple[Scrub, ...]


def scrub_key(node: str | None) -> str:
    """The key of the record of a node's cache, or of the store."""
    return STORE if node is None else f"node.{node}"


def check_cached_blob(node: Name) -> Endpoint[CheckBlob, CheckedBlob]:
    """Checks the copy of a blob in the cache of a node."""
    return Endpoint(f"llmos.v1.node.{node}.check_blob", CheckBlob, CheckedBlob)


CHECK_BLOB = Endpoint("llmos.v1.registry.check_blob", CheckBlob, CheckedBlob)
"""Checks a blob in the store."""
LIST_SCRUBS = Endpoint("llmos.v1.registry.list_scrubs", Empty, ScrubList)

_TIME = datetime.fromisoformat("2026-11-24T12:00:00+00:00")
CheckBlob.EXAMPLE = CheckBlob(digest="ab" * 32)
CheckedBlob.EXAMPLE = CheckedBlob(state=BlobState.WHOLE, size=98_000_000)
DamagedBlob.EXAMPLE = DamagedBlob(digest="ab" * 32, files=("smollm2:1 model.onnx.data",), found_at=_TIME)
Scrub.EXAMPLE = Scrub(
    place=STORE, actor="registry-3f2a", renewed_at=_TIME, began_at=_TIME, damaged=(DamagedBlob.EXAMPLE,)
)
ScrubList.EXAMPLE = ScrubList(scrubs=(Scrub.EXAMPLE,))
