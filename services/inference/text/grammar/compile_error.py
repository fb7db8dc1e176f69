"""The error of a grammar that does not compile, in the client's terms."""

import json
import re

from services.inference.text.grammar.source import GrammarSource
from shared.errors import InvalidInput

_PLACE = re.compile(r"^(?:at )?(\d+)\(\d+\): ")
_KEYS = re.compile(r"Unimplemented keys: (\[.*\])")
_LONGEST = 500


def compile_error(source: GrammarSource, message: str) -> InvalidInput:
    """The error for a message of the library about a source.

    Its messages look like `at 2(8): failed to compile JSON schema: …`, then the source's lines, and with a regular
    expression `error: …` on a line of its own.
    """
    lines = message.strip().splitlines() or ["it does not compile"]
    place = _PLACE.match(lines[0])
    param = source.param if place is None else source.lines.get(int(place[1]), source.param)
    text = _PLACE.sub("", lines[0]).removeprefix("failed to compile JSON schema: ")
    if (keys := _KEYS.search(text)) is not None:
        names = ", ".join(json.loads(keys[1]))
        text = f"the schema has keywords that cannot be enforced: {names}; remove them, or set strict to false"
    details = [line for line in lines[1:] if line.startswith("error: ")]
    return InvalidInput(f"{param}: {' '.join([text, *details])[:_LONGEST]}", param=param)
