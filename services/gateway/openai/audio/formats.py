"""A transcript in the formats that OpenAI has. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.gateway.openai.audio.segments import Segment

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a file.

    Attributes:
        task: transcribe or translate.
        language: A code, as it was given or found; empty if the model knows one only.
        seconds: Of the file.
        segments: In their order.
        input_tokens: Of all prompts.
        output_tokens: Of all answers.
    """

    task: str
    language: str
    seconds: float
    segments: Sequence[Segment]
    input_tokens: int
    output_tokens: int

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(segment.text for segment in self.segments)


def json_form(transcript: Transcript) -> dict[str, Any]:
    """OpenAI's `json`."""
    usage = {
        "type": "tokens",
        "input_tokens": transcript.input_tokens,
        "output_tokens": transcript.output_tokens,
        "total_tokens": transcript.input_tokens + transcript.output_tokens,
    }
    return {"text": transcript.text, "usage": usage}


def verbose_json_form(transcript: Transcript) -> dict[str, Any]:
    """OpenAI's `verbose_json`, without the figures that only its own decoder has."""
    return {
        "task": transcript.task,
        "language": transcript.language or "en",
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "segments": [
            {"id": index, "start": round(each.start, 2), "end": round(each.end, 2), "text": each.text}
            for index, each in enumerate(transcript.segments)
        ],
        "usage": {"type": "duration", "seconds": round(transcript.seconds)},
    }


def text_form(transcript: Transcript, form: Format) -> str:
    """`text`, `srt` or `vtt`."""
    if form == "text":
        return transcript.text + "\n"
    comma = form == "srt"
    blocks = []
    for number, each in enumerate(transcript.segments, 1):
        times = f"{_clock(each.start, comma=comma)} --> {_clock(each.end, comma=comma)}"
        lines = [times, each.text.replace("-->", "->"), ""]
        blocks.append("\n".join([str(number), *lines] if comma else lines))
    return ("" if comma else "WEBVTT\n\n") + "\n".join(blocks)


def _clock(seconds: float, *, comma: bool) -> str:
    whole = round(seconds * 1000)
    hours, minutes, rest = whole // 3_600_000, whole // 60_000 % 60, whole % 60_000
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{',' if comma else '.'}{rest % 1000:03}"
