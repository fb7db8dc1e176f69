"""Reads the form of a request for a transcript."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import IO, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gateway.http.explanation import explain
from services.gateway.http.multipart import Part, read_field, read_parts
from services.gateway.openai.audio.formats import Format
from shared.errors import InvalidInput, PayloadTooLarge

FORMATS: tuple[Format, ...] = get_args(Format)
MAX_FILE = 25 << 20
"""OpenAI's bound."""
_MORE_THAN_ONCE = {"timestamp_granularities[]", "include[]"}


class TranscriptRequest(BaseModel):
    """The fields beside the file, as texts of a form."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    language: str | None = Field(default=None, pattern=r"^[A-Za-z]{2,3}$")
    """What is spoken, as ISO-639-1 has it. Not given: the model finds out."""
    prompt: str = Field(default="", max_length=10_000)
    """Names and words to be expected, or the text that came before."""
    response_format: Format = "json"
    temperature: float = Field(default=0.0, ge=0.0, le=1.0)
    timestamp_granularities: tuple[str, ...] = Field(default=(), alias="timestamp_granularities[]")
    """`segment`, with `verbose_json`."""
    stream: bool = False


async def read_form(content_type: str, body: AsyncIterator[bytes], file: IO[bytes]) -> TranscriptRequest:
    """Write the file of a form to `file`, and check the fields.

    Raises:
        InvalidInput: A field is missing, wrong or not supported; it is named.
        PayloadTooLarge: The file is larger than `MAX_FILE`.
    """
    fields, size = await _read(content_type, body, file)
    if not size:
        found = "is required: the form has no field of this name" if size is None else "is empty"
        raise InvalidInput(f"file {found}; send a file of sound", param="file")
    try:
        request = TranscriptRequest.model_validate(fields)
    except ValidationError as error:
        raise explain(error) from error
    if "word" in request.timestamp_granularities:
        raise InvalidInput(
            "timestamp_granularities: times of words are not supported; ask for segment",
            param="timestamp_granularities",
        )
    if request.stream:
        raise InvalidInput("stream: transcripts are not streamed; leave stream out", param="stream")
    return request


async def _read(content_type: str, body: AsyncIterator[bytes], file: IO[bytes]) -> tuple[dict[str, Any], int | None]:
    """The fields beside the file, and the bytes of the file; None: there is none."""
    fields: dict[str, Any] = {}
    size: int | None = None
    async with aclosing(read_parts(content_type, body)) as parts:
        async for part in parts:
            if part.name == "file" and size is None:
                size = await _store(part, file)
            elif part.name in _MORE_THAN_ONCE:
                fields.setdefault(part.name, []).append(await read_field(part))
            elif part.name not in fields and part.name != "file":
                fields[part.name] = await read_field(part)
            else:
                raise InvalidInput(f"the field {part.name:.80} stands twice in the form", param=part.name)
    return fields, size


async def _store(part: Part, file: IO[bytes]) -> int:
    size = 0
    async for chunk in part.content:
        size += len(chunk)
        if size > MAX_FILE:
            raise PayloadTooLarge(f"file is larger than {MAX_FILE >> 20} MiB; cut it", param="file")
        file.write(chunk)
    return size
