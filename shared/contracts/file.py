"""Uploaded files, in KV `LLMOS_FILES` (key: file id); their bytes are blobs in the store. Written by the gateway."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract
from shared.contracts.manifest import Digest

FILES_BUCKET = "LLMOS_FILES"

Purpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
"""What a file is for; OpenAI's words."""

Rows = Literal["turns", "pairs"]
"""What the rows of a training file are: conversations, or pairs of answers."""

FileId = Annotated[str, StringConstraints(pattern=r"^file-[0-9a-f]{24}$")]


class UploadedFile(Contract):
    """A file that a client uploaded."""

    id: FileId
    name: str = Field(max_length=255)
    """As the client called it."""
    purpose: Purpose
    digest: Digest
    size: int = Field(ge=0)
    """Bytes."""
    rows: Rows | None = None
    """Of purpose `fine-tune`: what its first rows are."""
    longest: int = Field(default=0, ge=0)
    """Bytes of its longest line."""
    owner: str = ""
    """The id of the API key that uploaded it."""
    created_at: datetime
    expires_at: datetime | None = None
    """From then on it is as good as deleted. None: it stays until somebody deletes it."""

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


UploadedFile.EXAMPLE = UploadedFile(
    id="file-3f2a77b11c1e4a1c9c510a4c",
    name="chats.jsonl",
    purpose="fine-tune",
    digest="ab" * 32,
    size=1_048_576,
    rows="turns",
    owner="key-3f2a",
    created_at=datetime.fromisoformat("2026-11-29T12:00:00+00:00"),
)
