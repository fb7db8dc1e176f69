"""Text from standard input."""

import sys

from shared.errors import InvalidInput


def is_terminal() -> bool:
    """Whether a person types."""
    return sys.stdin is not None and sys.stdin.isatty()


def read_text() -> str:
    """All of standard input, without its last line end; raises `InvalidInput` for what is no text."""
    if sys.stdin is None:
        return ""
    data, encoding = sys.stdin.buffer.read(), sys.stdin.encoding
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"standard input is not text in {encoding} (byte {error.start}); convert it, with iconv for example"
        ) from error
    return text.removeprefix("\ufeff").rstrip("\r\n")
