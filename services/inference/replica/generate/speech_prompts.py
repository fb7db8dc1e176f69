"""The prompts of a model that writes down speech: sound for the encoder, control tokens for the decoder."""

import asyncio
import base64
import binascii

import numpy as np

from services.inference.replica.generate.prompts import Prompt
from services.inference.speech.log_mel import HOP, SAMPLE_RATE, log_mel
from shared.contracts.manifest import Seq2SeqSpec, SpeechSpec
from shared.contracts.replica import Generate, Speech
from shared.errors import InvalidInput
from shared.text.tokenizer import Tokenizer

_STEP_S = 0.02
"""Seconds from timestamp to timestamp."""


class SpeechPrompts:
    """Makes prompts of sound.

    Args:
        tokenizer: The version's.
        spec: The version's.
        max_len: Tokens of an answer, its prefix included, that the deployment takes.
    """

    def __init__(self, tokenizer: Tokenizer, spec: Seq2SeqSpec, *, max_len: int) -> None:
        assert spec.speech is not None
        self._tokenizer = tokenizer
        self._spec, self._speech = spec, spec.speech
        self._frames = 2 * spec.source_length
        self._most_context = max_len // 2 - 1
        begin = self._speech.timestamp_token_id
        steps = range(0 if begin is None else min(spec.source_length, spec.vocab_size - begin - 1) + 1)
        self._stamps = {(begin or 0) + step: f"<|{step * _STEP_S:.2f}|>" for step in steps}

    async def prompt(self, request: Generate) -> Prompt:
        """See `Prompts.prompt`."""
        if request.speech is None:
            raise InvalidInput(
                "this model writes down speech; send a file to /v1/audio/transcriptions", param="model"
            )
        if request.sampling.prompt_logprobs is not None:
            raise InvalidInput("speech has no tokens: leave prompt_logprobs out", param="prompt_logprobs")
        speech, known = request.speech, self._speech
        source = await asyncio.to_thread(self._features, speech.samples)
        before = self._context(speech.context)
        if known.languages and speech.language is None:
            texts = {token: f"<|{code}|>" for code, token in known.languages.items()}
            return Prompt([known.start_token_id], source, control_texts=texts, allowed=tuple(texts))
        ids = [*before, known.start_token_id, *self._task(speech, known)]
        if speech.timestamps and known.timestamp_token_id is not None:
            return Prompt(ids, source, timestamps=known.timestamp_token_id, control_texts=self._stamps)
        if known.no_timestamps_token_id is not None:
            ids.append(known.no_timestamps_token_id)
        return Prompt(ids, source)

    def _task(self, speech: Speech, known: SpeechSpec) -> list[int]:
        if not known.languages:
            if speech.language not in (None, "en"):
                raise InvalidInput(
                    f"language is {speech.language!r:.40}; this model knows English alone", param="language"
                )
            return []
        if speech.language not in known.languages:
            codes = ", ".join(sorted(known.languages))
            raise InvalidInput(f"language is {speech.language!r:.40}; this model knows {codes}", param="language")
        task = known.translate_token_id if speech.translate else known.transcribe_token_id
        if task is None:
            raise InvalidInput("this model has no such task; send the file to the other route", param="model")
        return [known.languages[speech.language], task]

    def _context(self, text: str) -> list[int]:
        """Tokens of what came before, its end if it is long: as Whisper's own decoder does."""
        if not text.strip() or self._speech.previous_token_id is None:
            return []
        ids = self._tokenizer.encode_plain(f" {text.strip()}")
        return [self._speech.previous_token_id, *ids[-self._most_context :]] if self._most_context > 0 else []

    def _features(self, encoded: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        try:
            pcm = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<i2")
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(f"speech.samples are no 16-bit samples in base64: {error}", param="file") from error
        if len(pcm) > self._frames * HOP:
            seconds = self._frames * HOP / SAMPLE_RATE
            raise InvalidInput(
                f"speech.samples are longer than the {seconds:g} s that this model reads", param="file"
            )
        return log_mel(pcm.astype(np.float32) / 32768.0, bins=self._speech.mel_bins, frames=self._frames)
