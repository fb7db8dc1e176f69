"""Sound in windows of 30 s, each a generation of its own."""

import base64
import re

from services.gateway.dispatch.concurrent_generations import Completion
from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller
from services.gateway.openai.audio.form import TranscriptRequest
from services.gateway.openai.audio.formats import Transcript
from services.gateway.openai.audio.segments import Segment, read_segments
from services.gateway.openai.audio.sound import RATE, Sound
from shared.contracts.replica import Speech
from shared.contracts.sampling import Sampling

WINDOW_S = 30.0
"""What a model reads at once."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


class Windows:
    """Has the windows of one file written down.

    Args:
        generations: Generate the texts.
        caller: Who asks.
        request: The form.
        request_id: Windows have ids derived from it.
        translate: Whether the text is to be in English, whatever is spoken.
    """

    def __init__(
        self,
        generations: Generations,
        caller: Caller,
        request: TranscriptRequest,
        request_id: str,
        *,
        translate: bool,
    ) -> None:
        self._generations = generations
        self._caller = caller
        self._request = request
        self._id = request_id
        self._translate = translate
        self._language = None if request.language is None else request.language.lower()
        self._count = self._input = self._output = 0
        self.served_by: str | None = None
        """The version that wrote it: `whisper:1`."""

    async def transcript(self, sound: Sound) -> Transcript:
        """What is said; raises what a generation raises."""
        segments: list[Segment] = []
        start = 0.0
        stamps = sound.seconds > WINDOW_S or self._request.response_format in ("srt", "vtt", "verbose_json")
        while start < sound.seconds:
            seconds = min(WINDOW_S, sound.seconds - start)
            text = await self._write_down(sound.read(round(start * RATE), round(seconds * RATE)), stamps=stamps)
            found, passed = read_segments(text, start, seconds)
            segments += found
            start += passed
        task = "translate" if self._translate else "transcribe"
        return Transcript(task, self._language or "", sound.seconds, segments, self._input, self._output)

    async def _write_down(self, samples: bytes, *, stamps: bool) -> str:
        encoded = base64.b64encode(samples).decode()
        speech = Speech(
            samples=encoded,
            language=self._language,
            translate=self._translate,
            timestamps=stamps,
            context=self._request.prompt,
        )
        text = (await self._generate(speech)).text
        if self._language is None and (language := _LANGUAGE.fullmatch(text.strip())):
            self._language = language[1]
            speech = speech.model_copy(update={"language": self._language})
            text = (await self._generate(speech)).text
        return text

    async def _generate(self, speech: Speech) -> Completion:
        self._count += 1
        sampling = Sampling(temperature=self._request.temperature, seed=self._generations.seed())
        if speech.language is None:
            sampling = sampling.model_copy(update={"temperature": 0.0})
        requests = self._generations.speech_requests(
            f"{self._id}-{self._count}", sampling, self._request.model, speech, self._caller
        )
        (completion,) = await self._generations.collect(requests)
        self._input += completion.usage.prompt_tokens
        self._output += completion.usage.completion_tokens
        self.served_by = completion.served_by
        return completion
