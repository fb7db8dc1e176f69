"""Translations and transcripts through a real gateway, from real replicas of small random models."""

import asyncio
import io
import struct
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import numpy as np
import ollama
import openai
import pytest
import soundfile

from shared.bus import rpc
from shared.contracts.registry import MODELS, ModelVersion, ResolveReference
from shared.contracts.resources import Resources
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment, ReplicaState
from shared.contracts.serving import ReplicaOptions
from shared.storage.directory import DirectoryStore
from tests.integration.gateway.conftest import ADMIN_KEY
from tests.support.harness.replicas import replica_process, store_version
from tests.support.harness.wait import eventually
from tests.support.models.small_seq2seq import expected, small_seq2seq

MAX_LEN = 32
RATE = 16_000
TEXT = "the quick brown fox jumps over the lazy dog"


@pytest.fixture
async def serve(stand, tmp_path):
    """Deploys one of the small models."""
    async with AsyncExitStack() as stack:

        async def start(kind: str) -> None:
            folder, manifest = small_seq2seq(kind)
            digest = await store_version(DirectoryStore(tmp_path / "versions"), folder, manifest, kind)
            deployment = Deployment(
                name=kind,
                model=kind,
                version=1,
                digest=digest,
                task=manifest.task,
                options=ReplicaOptions(max_len=MAX_LEN),
                resources=Resources(memory=1, threads=1),
                created_at=datetime(2026, 11, 30, tzinfo=UTC),
            )
            await stand.bus.kv(DEPLOYMENTS_BUCKET).put(kind, deployment.encode())
            process = await stack.enter_async_context(
                replica_process(
                    stand.bus,
                    stand.nats.url,
                    tmp_path / "versions",
                    stand.folder / "cache",
                    digest,
                    model=kind,
                    max_len=MAX_LEN,
                )
            )
            await process.until(ReplicaState.READY)

            async def listed() -> bool:
                models = (await stand.client.get("/v1/models")).json()["data"]
                return any(model["id"] == kind and model["ready_replicas"] for model in models)

            await eventually(listed)

        yield start


@pytest.fixture
async def client(stand):
    async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("kind", ["t5", "bart"])
async def test_a_text_becomes_another(stand, serve, client, kind):
    await serve(kind)
    known = expected(kind)
    prefix = len(small_seq2seq(kind)[1].seq2seq.prefix)

    async def translated(case) -> None:
        answer = await client.completions.create(
            model=kind,
            prompt=case["source"],
            max_tokens=known["max_new_tokens"] + 1 - prefix,
            extra_body={"return_token_ids": True},
        )
        assert answer.choices[0].model_extra["token_ids"] == case["greedy"][prefix:]
        assert answer.usage.prompt_tokens == len(case["source"])

    await asyncio.gather(*(translated(case) for case in known["cases"]))

    plain = await client.completions.create(model=kind, prompt=TEXT, max_tokens=12)
    chat = await client.chat.completions.create(
        model=kind, messages=[{"role": "user", "content": TEXT}], max_tokens=12
    )
    assert plain.choices[0].text == chat.choices[0].message.content
    pieces = [
        chunk.choices[0].delta.content or ""
        async for chunk in await client.chat.completions.create(
            model=kind,
            messages=[{"role": "system", "content": "the quick"}, {"role": "user", "content": TEXT[10:]}],
            max_tokens=12,
            stream=True,
        )
    ]
    assert "".join(pieces) == chat.choices[0].message.content


async def test_ollamas_clients_ask_such_models_too(stand, serve, client):
    await serve("t5")
    manifest = small_seq2seq("t5")[1]
    version = ModelVersion.EXAMPLE.model_copy(update={"manifest": manifest})

    async def resolve(_: ResolveReference) -> ModelVersion:
        return version

    async with (
        rpc.serve(stand.bus, {MODELS.resolve: resolve}),
        ollama.AsyncClient(stand.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}) as asking,
    ):
        assert [each.size for each in (await asking.list()).models] == [manifest.size]
        shown = await asking.show("t5")
        assert shown.capabilities == ["completion"]
        spec = manifest.seq2seq.text
        assert shown.modelinfo["llmos.vocab_size"] == spec.vocab_size
        options = {"num_predict": 12}
        plain = await client.completions.create(model="t5", prompt=TEXT, max_tokens=12)
        assert (await asking.generate("t5", TEXT, options=options)).response == plain.choices[0].text
        talk = [{"role": role, "content": TEXT} for role in ("user", "assistant", "user")]
        assert (await asking.chat("t5", talk[:1], options=options)).message.content == plain.choices[0].text
        with pytest.raises(ollama.ResponseError, match="no conversation"):
            await asking.chat("t5", talk, options=options)
        with pytest.raises(ollama.ResponseError, match=r"Ollama's API: raw"):
            await asking.generate("t5", TEXT, raw=True)
        with pytest.raises(ollama.ResponseError, match=r"generates text; ask it at .*/api/chat"):
            await asking.embed("t5", TEXT)


async def test_what_such_a_model_does_not_do_is_said(stand, serve, client):
    await serve("t5")

    async def refused(route: str, param: str, **body: object) -> str:
        response = await stand.client.post(route, json={"model": "t5", **body})
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["param"] == param
        assert "\n" not in error["message"]
        return str(error["message"])

    talk = [{"role": role, "content": TEXT} for role in ("user", "assistant", "user")]
    assert "no conversation" in await refused("/v1/chat/completions", "messages", messages=talk)
    assert "maximum context length" in await refused("/v1/completions", "prompt", prompt="the " * 40)
    assert "encoder" in await refused("/v1/completions", "prompt_logprobs", prompt=TEXT, prompt_logprobs=1)
    assert "token id" in await refused("/v1/completions", "prompt", prompt=[5, 4000])
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    user = [{"role": "user", "content": TEXT}]
    assert "tools" in await refused("/v1/chat/completions", "tools", messages=user, tools=[tool])
    with pytest.raises(openai.BadRequestError, match="generates text"):
        await client.audio.transcriptions.create(model="t5", file=("a.wav", recorded("WAV")))


def recorded(form: str, seconds: float = 0.3, rate: int = RATE, channels: int = 1) -> bytes:
    """A tone as a file."""
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone[:, None], channels, axis=1), rate, format=form)
    return file.getvalue()


async def test_speech_becomes_text_in_all_of_openais_forms(stand, serve, client):
    await serve("whisper")
    first = await client.audio.transcriptions.create(model="whisper", file=("a.wav", recorded("WAV")))
    assert first.text
    for form in ("FLAC", "OGG"):
        other = await client.audio.transcriptions.create(model="whisper", file=("a", recorded(form)))
        assert other.text
    flac = await client.audio.transcriptions.create(model="whisper", file=("a.flac", recorded("FLAC")))
    assert flac.text == first.text  # both keep all samples
    await client.audio.transcriptions.create(model="whisper", file=("a.mp3", recorded("MP3", 0.2, 44_100, 2)))

    plain = await client.audio.transcriptions.create(
        model="whisper", file=("a.wav", recorded("WAV")), response_format="text"
    )
    assert plain == first.text + "\n"
    subtitles = await client.audio.transcriptions.create(
        model="whisper", file=("a.wav", recorded("WAV")), response_format="srt"
    )
    assert subtitles == f"1\n00:00:00,000 --> 00:00:00,300\n{first.text}\n"
    verbose = await client.audio.transcriptions.create(
        model="whisper", file=("a.wav", recorded("WAV")), response_format="verbose_json", language="en"
    )
    assert verbose.duration == pytest.approx(0.3)
    assert [segment.text for segment in verbose.segments] == [first.text]


async def test_what_is_no_sound_is_refused_with_the_field(stand, serve, client):
    await serve("whisper")

    async def refused(file: bytes | None, param: str, status: int = 400, **fields: str) -> str:
        files = {} if file is None else {"file": ("a.wav", file)}
        data = {"model": "whisper", **fields}
        response = await stand.client.post("/v1/audio/transcriptions", data=data, files=files or {"other": ("", b"")})
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert error["param"] == param, error
        assert "\n" not in error["message"]
        return str(error["message"])

    wav = recorded("WAV")
    assert "can't be read as sound" in await refused(b"no sound at all" * 100, "file")
    assert "can't be read as sound" in await refused(b"<html>" * 50, "file")
    assert "is empty" in await refused(b"", "file")
    assert "hours" in await refused(ten_hours(), "file")
    assert "25 MiB" in await refused(b"\0" * (26 << 20), "file", 413)
    assert "no sound in it" in await refused(recorded("WAV", 0.0), "file")
    await refused(wav, "response_format", response_format="docx")
    await refused(wav, "temperature", temperature="hot")
    await refused(wav, "timestamp_granularities", **{"timestamp_granularities[]": "word"})
    assert "English alone" in await refused(wav, "language", language="fr")
    assert "longer than the 0.4 s" in await refused(recorded("WAV", 1.0), "file")
    assert "whisper" in await refused(wav, "model", 404, model="nothing")
    with pytest.raises(openai.BadRequestError, match="/v1/audio/transcriptions"):
        await client.completions.create(model="whisper", prompt=TEXT)


def ten_hours() -> bytes:
    """A WAV of 8-bit silence at 1,000 samples a second: 10 hours in a header, and 20 MB of them in the file."""
    size = 36_000 * 1000
    data = b"\x80" * (20 << 20)
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 1000, 1000, 1, 8)
    )
    return head + b"data" + struct.pack("<I", min(size, len(data))) + data
