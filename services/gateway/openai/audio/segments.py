"""Parts of a text with their times. Pure."""

import re
from dataclasses import dataclass

_MARK = re.compile(r"<\|(\d{1,3}\.\d\d)\|>")
_LEAST_S = 1.0
"""What a window moves on at least, whatever the model says."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of what was said. Times are seconds from the start of the file."""

    start: float
    end: float
    text: str


def read_segments(text: str, offset: float, seconds: float) -> tuple[list[Segment], float]:
    """The segments of a window, and how far to go on from its start.

    A window that ends within a sentence ends with one mark more: the next window begins there. (As in Whisper's own
    `transcribe`.)

    Args:
        text: With marks such as `<|1.20|>` around each part, or without.
        offset: Seconds, of the window in the file.
        seconds: Of the window.
    """
    pieces = _MARK.split(text)
    plain, marks, texts = pieces[0], [float(mark) for mark in pieces[1::2]], pieces[2::2]
    if not marks:
        found = [Segment(offset, offset + seconds, plain.strip())] if plain.strip() else []
        return found, seconds
    segments: list[Segment] = []
    for index, part in enumerate(texts):
        if not part.strip():
            continue
        end = marks[index + 1] if index + 1 < len(marks) else seconds
        start = min(marks[index], seconds)
        segments.append(Segment(offset + start, offset + min(max(start, end), seconds), part.strip()))
    ends_within = len(marks) >= 2 and not texts[-1].strip() and not texts[-2].strip()
    if ends_within and _LEAST_S <= marks[-1] < seconds:
        return segments, marks[-1]
    return segments, seconds
