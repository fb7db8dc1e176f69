"""Where a JSON value ends."""


class JsonValue:
    """Follows an object or array through pieces of text, which a grammar has made valid JSON."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self.complete = False
        """Whether its last bracket was seen."""

    def push(self, text: str) -> int:
        """How many of the characters belong to the value."""
        for index, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._in_text:
                self._escaped = char == "\\"
                self._in_text = char != '"'
            elif char == '"':
                self._in_text = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    return index + 1
        return len(text)
