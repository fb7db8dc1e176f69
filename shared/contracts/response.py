"""Responses and conversations that the gateway stores, in KV `LLMOS_RESPONSES`.

A record is under `<tenant>.<id>`. Its content, which is JSON of any size, is in parts under
`<tenant>.<id>.<content>.<n>`, and the events of a stream are under `<tenant>.<id>.events.<n>`. While a response is
generated in the background, its gateway renews the entry `<tenant>.<id>` of `LLMOS_RESPONSE_RUNS`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract

RESPONSES_BUCKET = "LLMOS_RESPONSES"
RESPONSE_RUNS_BUCKET = "LLMOS_RESPONSE_RUNS"
RESPONSES_TTL_S = 30 * 24 * 3600.0
"""An entry that was not rewritten for 30 days is gone: OpenAI's time for responses."""
RESPONSES_MAX_BYTES = 1 << 30
"""Of the bucket: what tenants store must leave room for the state of the system on the bus."""
RUN_RENEW_S = 1.0
"""The gateway renews the entry of a run, and learns that the run is to be cancelled, this often."""
RUN_TTL_S = 20.0
"""A run whose entry was not renewed for this long has lost its gateway."""
PART_BYTES = 768 << 10
"""Bytes of a part of a content at most: it fits a record of the bus."""

StoredId = Annotated[str, StringConstraints(pattern=r"^(resp|conv)_[0-9a-f]{48}$")]


class ResponseStatus(StrEnum):
    """OpenAI's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it changes no more."""
        return self not in (ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS)


class StoredRecord(Contract):
    """A response or a conversation, without its content."""

    id: StoredId
    status: ResponseStatus = ResponseStatus.COMPLETED
    """Of a response."""
    content: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """The random name of the content: a new one is written beside the old, and counts once the record names it."""
    parts: int = Field(ge=1)
    bytes: int = Field(ge=0)
    """Of the content."""
    updated_at: datetime
    events: bool = False
    """Whether the events of its stream are kept, in entries `<tenant>.<id>.events.<n>`."""


class ResponseRun(Contract):
    """A response that is generated in the background."""

    gateway: str
    cancelled: bool = False
    """Whether the run is to end: any gateway may say so."""


StoredRecord.EXAMPLE = StoredRecord(
    id="resp_" + "3f" * 24,
    content="5a" * 8,
    parts=1,
    bytes=2048,
    updated_at=datetime.fromisoformat("2026-11-30T12:00:00+00:00"),
)
ResponseRun.EXAMPLE = ResponseRun(gateway="gateway-1")
