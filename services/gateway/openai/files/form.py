"""Reads the form of an upload: the file goes to the store as it arrives, the fields are checked."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from services.gateway.http.multipart import Part, read_field, read_parts
from services.gateway.openai.files.rows_check import RowsCheck
from shared.contracts.file import Purpose, Rows
from shared.errors import InvalidInput, PayloadTooLarge
from shared.printable import is_printable, printable
from shared.storage.port import ArtifactStore

_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_MIN_S, _MAX_S = 3600, 30 * 24 * 3600
"""Between these OpenAI's files expire."""
_BATCH = timedelta(days=30)
"""After this a file for a batch expires by itself, as at OpenAI."""
_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is in the store, and what its form said."""

    name: str
    purpose: Purpose
    digest: str
    size: int
    rows: Rows | None
    longest: int
    """Bytes of its longest line."""
    expires_at: datetime | None


async def read_upload(
    content_type: str, body: AsyncIterator[bytes], store: ArtifactStore, limit: int, now: datetime
) -> Upload:
    """Store the file of a form.

    Args:
        content_type: Of the request.
        body: The form.
        store: Takes the file.
        limit: Bytes of the file at most.
        now: In UTC.

    Raises:
        InvalidInput: A field is missing or wrong, or the file is not what its purpose needs.
        PayloadTooLarge: The file is larger than `limit`.
        StorageFull: The store has no room.
    """
    fields: dict[str, str] = {}
    stored: tuple[str, int] | None = None
    check = RowsCheck("the file")
    name = ""
    async with aclosing(read_parts(content_type, body)) as parts:
        async for part in parts:
            if part.name == "file" and stored is None:
                name = (part.filename or "")[:_NAME_LENGTH] or "file"
                if not is_printable(name):
                    raise InvalidInput(
                        f"file: the file name {printable(name)!r} has control characters; rename the file",
                        param="file",
                    )
                check = RowsCheck(name)
                early = "purpose" in fields and _purpose(fields) == "fine-tune"
                stored = await store.put_new(_watched(part, check, limit, early=early))
            elif part.name in _FIELDS and part.name not in fields:
                fields[part.name] = await read_field(part)
            else:
                taken = ", ".join(("file", *_FIELDS))
                raise InvalidInput(
                    f"unrecognized or repeated field: {part.name:.80}; fields: {taken}", param=part.name
                )
    purpose, expires_at = _purpose(fields), _expires_at(fields, now)
    if stored is None:
        raise InvalidInput("file is required: the form has no field of this name", param="file")
    if purpose == "fine-tune" and check.problem is not None:
        raise check.problem
    rows: Rows | None = None if purpose != "fine-tune" else "pairs" if check.pairs else "turns"
    return Upload(name, purpose, *stored, rows=rows, longest=check.longest, expires_at=expires_at)


async def _watched(part: Part, check: RowsCheck, limit: int, *, early: bool) -> AsyncIterator[bytes]:
    """The file; raises what `check` finds where that is known to matter."""
    size = 0
    async for chunk in part.content:
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(
                f"the file is larger than {limit / (1 << 20):g} MiB (LLMOS_GATEWAY_MAX_FILE)", param="file"
            )
        check.feed(chunk)
        if early and check.problem is not None:
            raise check.problem
        yield chunk
    check.finish()
    if early and check.problem is not None:
        raise check.problem


def _purpose(fields: Mapping[str, str]) -> Purpose:
    given = fields.get("purpose")
    for purpose in _PURPOSES:
        if purpose == given:
            return purpose
    found = "purpose is required" if given is None else f"purpose: {given[:80]!r} is not known"
    raise InvalidInput(f"{found}; expected one of {', '.join(_PURPOSES)}", param="purpose")


def _expires_at(fields: Mapping[str, str], now: datetime) -> datetime | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return now + _BATCH if fields["purpose"] == "batch" else None
    if anchor != "created_at":
        raise InvalidInput("expires_after.anchor: expected 'created_at'", param="expires_after.anchor")
    if seconds is None or not seconds.isdecimal() or len(seconds) > 9 or not _MIN_S <= int(seconds) <= _MAX_S:
        raise InvalidInput(
            f"expires_after.seconds: expected a whole number from {_MIN_S} to {_MAX_S}", param="expires_after.seconds"
        )
    return now + timedelta(seconds=int(seconds))
