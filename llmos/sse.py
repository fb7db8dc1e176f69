"""Server-sent events: the data of each event in a stream of bytes."""

import re
from collections.abc import Iterable, Iterator

_LINE_END = re.compile(rb"\r\n|\n|\r(?!$)")
"""Nothing else ends a line, U+2028 and U+0085 included. A CR at the end may be the half of a CR LF: the next bytes
tell. https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream"""


def event_data(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The `data` of each complete event, in order; fields of other names and comments are skipped."""
    rest, data = b"", list[bytes]()
    for chunk in chunks:
        *lines, rest = _LINE_END.split(rest + chunk)
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()
