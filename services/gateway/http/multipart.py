"""Forms with files (`multipart/form-data`), read as they arrive: a file of any size takes no more than a chunk."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import InvalidInput, PayloadTooLarge

MAX_FIELD = 64 << 10
"""Bytes of a field that is no file."""
MAX_PARTS = 32


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a form.

    name: of the field
    filename: None: it is no file
    content: to be read before the next part is asked for; what is left is skipped
    """

    name: str
    filename: str | None
    content: AsyncIterator[bytes]


async def read_parts(content_type: str, body: AsyncIterator[bytes]) -> AsyncGenerator[Part, None]:
    """The fields of a form, in their order.

    Args:
        content_type: The header of the request.
        body: Of the request; when an error is raised, the rest of it can still be read.

    Raises:
        InvalidInput: The body is no form, or it is cut.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidInput("send a form: the content type multipart/form-data, with a boundary", param="content-type")
    async with aclosing(_events(body, options[b"boundary"])) as events:
        count = 0
        async for event in events:
            if isinstance(event, dict):
                count += 1
                if count > MAX_PARTS:
                    raise InvalidInput(f"the form has more than {MAX_PARTS} fields")
                yield _part(event, events)


async def read_field(part: Part) -> str:
    """The text of a field that is no file; raises `InvalidInput`."""
    data = bytearray()
    async for chunk in part.content:
        data += chunk
        if len(data) > MAX_FIELD:
            raise PayloadTooLarge(f"{part.name} has more than {MAX_FIELD >> 10} KiB", param=part.name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{part.name} is not UTF-8", param=part.name) from error


_Headers = dict[str, str]
_Event = _Headers | bytes | None
"""Headers of a part, some of its content, and None at its end."""


def _part(headers: _Headers, events: AsyncIterator[_Event]) -> Part:
    disposition, options = parse_options_header(headers.get("content-disposition"))
    if disposition != b"form-data" or b"name" not in options:
        raise InvalidInput('each part of the form needs a header Content-Disposition: form-data; name="…"')
    filename = options.get(b"filename")
    return Part(
        name=options[b"name"].decode(errors="replace"),
        filename=None if filename is None else filename.decode(errors="replace"),
        content=_content(events),
    )


async def _content(events: AsyncIterator[_Event]) -> AsyncIterator[bytes]:
    async for event in events:
        if event is None:
            return
        assert isinstance(event, bytes), "headers come after the end of the part before"
        yield event


async def _events(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[_Event, None]:
    collector = _Collector()
    try:
        parser = collector.parser(boundary)
        async for chunk in chunks:
            parser.write(chunk)
            while collector.events:
                yield collector.events.popleft()
    except FormParserError as error:
        raise InvalidInput(f"the form can't be read: {error}") from error
    if not collector.ended:
        raise InvalidInput("the form is cut: its last boundary is missing")


class _Collector:
    """Takes the parser's calls, and keeps what they say in order."""

    def __init__(self) -> None:
        self.events: deque[_Event] = deque()
        self.ended = False
        self._headers: _Headers = {}
        self._name = b""
        self._value = b""

    def parser(self, boundary: bytes) -> MultipartParser:
        """A parser that calls it."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._field,
                "on_header_value": self._text,
                "on_header_end": self._header,
                "on_headers_finished": lambda: self.events.append(self._headers),
                "on_part_data": lambda data, start, end: self.events.append(bytes(data[start:end])),
                "on_part_end": lambda: self.events.append(None),
                "on_end": self._end,
            },
        )

    def _begin(self) -> None:
        self._headers = {}

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _text(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def _end(self) -> None:
        self.ended = True
