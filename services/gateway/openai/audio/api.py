"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from services.gateway.dispatch.generations import Generations
from services.gateway.dispatch.requests import Caller
from services.gateway.http.body import check_encoding, stream_body, unless_gone
from services.gateway.http.middleware import state_of
from services.gateway.http.operation import Content, Operation
from services.gateway.http.responses import json_response
from services.gateway.openai.audio.form import FORMATS, MAX_FILE, read_form
from services.gateway.openai.audio.formats import json_form, text_form, verbose_json_form
from services.gateway.openai.audio.sound import Decoding, temporary_files
from services.gateway.openai.audio.windows import Windows
from shared.errors import InvalidInput, LlmosError, PayloadTooLarge

_FORM_OVERHEAD = 1 << 20
"""Bytes of a form beside its file."""
_FORM: Content = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file", "model"],
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "model": {"type": "string"},
                "language": {"type": "string"},
                "prompt": {"type": "string"},
                "response_format": {"type": "string", "enum": list(FORMATS)},
                "temperature": {"type": "number"},
                "timestamp_granularities[]": {"type": "array", "items": {"type": "string"}},
            },
        }
    }
}
_RESULT: Content = {"application/json": {"schema": {"type": "object"}}, "text/plain": {"schema": {"type": "string"}}}


class AudioApi:
    """Transcripts and translations of sound.

    Args:
        generations: Generate the texts.
    """

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._decoding = Decoding()

    def operations(self) -> list[Operation]:
        """The operations."""
        kinds = (
            ("/v1/audio/transcriptions", self.transcribe, "Write down what is said, as OpenAI does"),
            ("/v1/audio/translations", self.translate, "Write down in English what is said, as OpenAI does"),
        )
        return [Operation("POST", *kind, "inference", body=_FORM, result=_RESULT) for kind in kinds]

    async def transcribe(self, request: Request) -> Response:
        """The words in the language in which they are spoken."""
        return await self._answer(request, translate=False)

    async def translate(self, request: Request) -> Response:
        """The words in English."""
        return await self._answer(request, translate=True)

    async def _answer(self, request: Request, *, translate: bool) -> Response:
        check_encoding(request)
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > MAX_FILE + _FORM_OVERHEAD):
            raise PayloadTooLarge(f"file is larger than {MAX_FILE >> 20} MiB; cut it", param="file")
        with temporary_files() as (file, samples):
            body = stream_body(request)
            try:
                form = await read_form(request.headers.get("content-type", ""), body, file)
            except LlmosError:
                await _drain(body)
                raise
            state_of(request.scope).model = form.model
            if translate and form.language is not None:
                raise InvalidInput("language: a translation finds out what is spoken; leave it out", param="language")
            sound = await unless_gone(request.receive, self._decoding.decode(file, samples))
            caller = Caller(state_of(request.scope).key_id)
            windows = Windows(
                self._generations, caller, form, self._generations.new_id("transcript"), translate=translate
            )
            transcript = await unless_gone(request.receive, windows.transcript(sound))
        if form.response_format == "json":
            return json_response(json_form(transcript))
        if form.response_format == "verbose_json":
            return json_response(verbose_json_form(transcript))
        return PlainTextResponse(text_form(transcript, form.response_format))


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read on for a while: a client that is still sending would see a reset connection, and no response."""
    left = MAX_FILE
    async for chunk in body:
        left -= len(chunk)
        if left < 0:
            return
