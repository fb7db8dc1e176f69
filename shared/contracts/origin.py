"""The request that a record comes from, so that the work it leads to can be found from there."""

from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from shared.contracts.base import Contract


class Origin(Contract):
    """A trace, and when it led to the record."""

    traceparent: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
    """W3C's form: https://www.w3.org/TR/trace-context/#traceparent-header."""
    at: datetime


Origin.EXAMPLE = Origin(
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    at=datetime.fromisoformat("2026-11-24T12:00:00+00:00"),
)
