"""A quick look at a training file while it arrives: whether it is UTF-8, and its first lines are rows. Pure.

A job reads the whole file later, and names every line that is wrong. Here the common mistakes end an upload at once:
a file of another kind, the wrong keys, a wrong encoding.
"""

import codecs

import orjson

from shared.errors import CorruptFile

CHECKED_LINES = 100
MAX_LINE = 16 << 20
"""Bytes of a line that is looked at."""
TURNS = ("messages",)
PAIRS = ("input", "preferred_output", "non_preferred_output")


class RowsCheck:
    """Takes the bytes of a file in order.

    Args:
        name: Of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.problem: CorruptFile | None = None
        """The first that was found."""
        self.pairs: bool | None = None
        """Whether the rows are pairs of answers; else conversations. None: no row was read yet."""
        self.longest = 0
        """Bytes of the longest line so far."""
        self._length = 0
        """Of the line that has not ended."""
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines = 0
        """Whole ones that were decoded."""
        self._line = bytearray()
        self._number = 0
        """Of the last line that was looked at."""

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self._measure(data)
        if self.problem is None:
            self._decode(data, final=False)
        if self.problem is None and self._number < CHECKED_LINES:
            self._look(data)

    def finish(self) -> None:
        """There are no more bytes."""
        if self.problem is None:
            self._decode(b"", final=True)
        if self.problem is None and self._number < CHECKED_LINES and self._line.strip():
            self._row(bytes(self._line))
        if self.problem is None and self.pairs is None:
            self.problem = CorruptFile(f"{self._name} has no rows", param="file")

    def _measure(self, data: bytes) -> None:
        first, *others = map(len, data.split(b"\n"))
        self._length += first
        self.longest = max(self.longest, self._length, *others)
        if others:
            self._length = others[-1]

    def _decode(self, data: bytes, *, final: bool) -> None:
        try:
            self._decoder.decode(data, final=final)
        except UnicodeDecodeError as error:
            line = self._lines + error.object.count(b"\n", 0, error.start) + 1
            self._found(line, f"not UTF-8: the byte {error.object[error.start]:#04x}")
        self._lines += data.count(b"\n")

    def _look(self, data: bytes) -> None:
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._line += end
            self._row(bytes(self._line))
            self._line.clear()
            if self.problem is not None or self._number >= CHECKED_LINES:
                return
        self._line += rest
        if len(self._line) > MAX_LINE:
            self._found(self._number + 1, f"longer than {MAX_LINE >> 20} MiB; expected JSON Lines, one object a line")

    def _row(self, line: bytes) -> None:
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            return
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self._found(self._number, f"not JSON: {error.msg}; expected JSON Lines, one object a line")
            return
        pairs = _is_pair(value)
        if pairs is None:
            found = f"the keys {', '.join(sorted(value)) or '(none)'}" if isinstance(value, dict) else "no object"
            self._found(
                self._number,
                f"expected an object with messages (for supervised), or with {', '.join(PAIRS)} (for dpo);"
                f" found {found:.200}",
            )
        elif self.pairs not in (None, pairs):
            self._found(self._number, "a row of another form than those before it")
        else:
            self.pairs = pairs

    def _found(self, line: int, what: str) -> None:
        self.problem = CorruptFile(f"{self._name}, line {line}: {what}", param="file")


def _is_pair(value: object) -> bool | None:
    """Whether a row is a pair, a conversation (False), or neither (None)."""
    if not isinstance(value, dict):
        return None
    if all(key in value for key in PAIRS):
        return True
    return False if isinstance(value.get("messages"), list) and value["messages"] else None
