"""Embeddings, classes and ranks through a real gateway, from real replicas of small random encoders."""

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import numpy as np
import openai
import pytest

from devtools.convert.encoder.version import convert_encoder
from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.contracts.resources import Resources
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment, ReplicaState
from shared.contracts.serving import ReplicaOptions
from shared.storage.directory import DirectoryStore
from tests.integration.gateway.conftest import ADMIN_KEY
from tests.support.harness.replicas import ReplicaProcess, replica_process, store_version
from tests.support.harness.wait import eventually
from tests.support.models.small_encoder import HIDDEN, VOCABULARY, write_small_encoder

MAX_LEN = 24
TEXTS = ["the quick brown fox jumps over the lazy dog", "paris is the capital of france", "river", "money ? !"]


class Version:
    """A converted encoder, as it lies in the store and as it computes here."""

    def __init__(self, folder, name, **options) -> None:
        self.name = name
        version = folder / f"{name}-version"
        self.manifest = convert_encoder(write_small_encoder(folder / name, **options), version)
        spec = self.manifest.the_encoder
        self.encoder = OnnxEncoder(version, spec, threads=1)
        self.tokenizer = EncoderTokenizer.from_file(
            version / "tokenizer.json", vocab_size=VOCABULARY, max_len=MAX_LEN
        )
        self.digest = asyncio.run(store_version(DirectoryStore(folder / "store"), version, self.manifest, name))
        self.store = folder / "store"

    def vectors(self, texts):
        return self.encoder.run(self.tokenizer.texts(texts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def minibert(folder):
    return Version(folder, "minibert")


@pytest.fixture(scope="module")
def classifier(folder):
    return Version(folder, "mood", labels=("bad", "good", "mixed"))


@pytest.fixture(scope="module")
def tagger(folder):
    return Version(folder, "tagger", labels=("O", "B-LOC", "B-PER"), of_tokens=True)


@pytest.fixture(scope="module")
def reranker(folder):
    return Version(folder, "ranker", labels=("relevance",))


@pytest.fixture
async def serve(stand):
    """Deploys a version, with one more replica at each call."""
    async with AsyncExitStack() as stack:

        async def start(version: Version, **more: str) -> ReplicaProcess:
            deployment = Deployment(
                name=version.name,
                model=version.name,
                version=1,
                digest=version.digest,
                task=version.manifest.task,
                options=ReplicaOptions(max_len=MAX_LEN),
                resources=Resources(memory=1, threads=1),
                created_at=datetime(2026, 11, 24, tzinfo=UTC),
            )
            await stand.bus.kv(DEPLOYMENTS_BUCKET).put(version.name, deployment.encode())
            process = await stack.enter_async_context(
                replica_process(
                    stand.bus,
                    stand.nats.url,
                    version.store,
                    stand.folder / "cache",
                    version.digest,
                    model=version.name,
                    max_len=MAX_LEN,
                    **more,  # type: ignore[arg-type]
                )
            )
            await process.until(ReplicaState.READY)

            async def listed() -> bool:
                models = (await stand.client.get("/v1/models")).json()["data"]
                return any(model["id"] == version.name and model["ready_replicas"] for model in models)

            await eventually(listed)
            return process

        yield start


async def post(stand, route="/v1/embeddings", **body):
    return await stand.client.post(route, json={"model": "minibert", **body})


def numbers(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([entry["embedding"] for entry in response.json()["data"]], np.float32)


async def test_embeddings_in_all_of_openais_forms(stand, serve, minibert, spans):
    await serve(minibert)
    expected = minibert.vectors(TEXTS)
    ids = [row.ids.tolist() for row in minibert.tokenizer.texts(TEXTS)]

    one = await post(stand, input=TEXTS[0])
    np.testing.assert_allclose(numbers(one), expected[:1], atol=1e-5)
    assert one.json()["usage"] == {"prompt_tokens": len(ids[0]), "total_tokens": len(ids[0])}
    assert [entry["index"] for entry in one.json()["data"]] == [0]
    np.testing.assert_allclose(numbers(await post(stand, input=TEXTS)), expected, atol=1e-5)
    np.testing.assert_allclose(numbers(await post(stand, input=ids[1])), expected[1:2], atol=1e-5)
    np.testing.assert_allclose(numbers(await post(stand, input=ids)), expected, atol=1e-5)

    short = await post(stand, input=TEXTS, dimensions=8)
    shortened = expected[:, :8] / np.linalg.norm(expected[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(numbers(short), shortened, atol=1e-5)

    plain = await post(stand, input=TEXTS, encoding_format="base64", user="someone")
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in plain.json()["data"]]
    np.testing.assert_allclose(decoded, expected, atol=1e-5)

    client = openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0)
    async with client:
        answer = await client.embeddings.create(model="minibert", input=TEXTS)
    np.testing.assert_allclose([entry.embedding for entry in answer.data], expected, atol=1e-5)

    many = [TEXTS[index % len(TEXTS)] for index in range(150)]
    np.testing.assert_allclose(numbers(await post(stand, input=many)), minibert.vectors(many), atol=1e-5)

    metrics = (await stand.client.get("/metrics")).text
    assert 'llmos_tokens_total{model="minibert",type="input"}' in metrics
    assert 'llmos_replica_prompt_tokens_total{model="minibert"' in metrics
    await wrong_requests_get_errors_that_say_what_is_wrong(stand)
    await requests_for_another_task_get_errors_that_name_the_route(stand)
    await a_trace_leads_to_the_replica(stand, spans)


async def wrong_requests_get_errors_that_say_what_is_wrong(stand):
    long = " ".join(["the"] * (MAX_LEN + 1))
    for body, param, part in (
        ({"input": ["a", *["b"] * 70, long]}, "input.71", "27 tokens"),
        ({"input": [[5, 6], [VOCABULARY]]}, "input.1", "token id"),
        ({"input": []}, "input", "expected a string"),
        ({"input": ["a", [5]]}, "input", "all texts"),
        ({"input": ["a"] * 2049}, "input", "2048"),
        ({"input": "a", "dimensions": HIDDEN + 1}, "dimensions", str(HIDDEN)),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "base64"),
        ({"input": "a", "truncate_prompt_tokens": MAX_LEN + 1}, "truncate_prompt_tokens", str(MAX_LEN)),
        ({"input": "a", "temperatur": 1}, "temperatur", "unrecognized"),
        ({}, "input", "required"),
    ):
        response = await post(stand, **body)
        assert response.status_code == 400, (body, response.text)
        error = response.json()["error"]
        assert (error["param"], part in error["message"]) == (param, True), error
    cut = await post(stand, input=long, truncate_prompt_tokens=-1)
    assert cut.json()["usage"]["total_tokens"] == MAX_LEN


async def requests_for_another_task_get_errors_that_name_the_route(stand):
    chat = await post(stand, "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}])
    text = await post(stand, "/v1/completions", prompt="hi")
    rank = await post(stand, "/v1/rerank", query="a", documents=["b"])
    for response in (chat, text, rank):
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == "model"
        assert "/v1/embeddings" in response.json()["error"]["message"]
    await stand.deploy("sample")
    await stand.replica()
    response = await post(stand, model="sample", input="hi")
    assert response.status_code == 400
    assert "/v1/chat/completions" in response.json()["error"]["message"]
    assert (await post(stand, model="nobody", input="hi")).status_code == 404


async def a_trace_leads_to_the_replica(stand, spans):
    spans.clear()
    await post(stand, input="the fox")
    named = {span.name: span for span in spans.get_finished_spans()}
    embedding, root = named["embeddings minibert"], named["POST /v1/embeddings"]
    assert embedding.parent.span_id == root.context.span_id
    assert embedding.attributes["gen_ai.usage.input_tokens"] == 4


async def test_tokens_are_classified_with_their_places_in_the_text(stand, serve, tagger):
    await serve(tagger)
    text = "the Fox, jumps over a river bank?"
    response = await post(stand, "/v1/classify", model="tagger", input=[text, "money"])
    assert response.status_code == 200, response.text
    first, second = response.json()["data"]
    assert (first["index"], second["index"], first["num_classes"]) == (0, 1, 3)
    words = [token["text"] for token in first["tokens"]]
    assert words == ["the", "Fox", ",", "jumps", "over", "a", "river", "bank", "?"]
    assert all(text[token["start"] : token["end"]] == token["text"] for token in first["tokens"])
    rows = tagger.tokenizer.texts([text, "money"])
    logits = tagger.encoder.run(rows)
    assert [each.shape for each in logits] == [(len(words) + 2, 3), (3, 3)]
    expected = [("O", "B-LOC", "B-PER")[label] for label in logits[0][1:-1].argmax(axis=-1)]
    assert [token["label"] for token in first["tokens"]] == expected
    assert len(set(expected)) > 1
    shares = np.exp(logits[1][1]) / np.exp(logits[1][1]).sum()
    assert second["tokens"][0]["score"] == pytest.approx(shares.max(), abs=1e-5)
    pairs = await post(stand, "/v1/rerank", model="tagger", query="a", documents=["b"])
    assert (pairs.status_code, "takes no pairs" in pairs.json()["error"]["message"]) == (400, True)
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    tensors = (await stand.client.post("/v2/models/tagger/infer", json=body)).json()["outputs"]
    assert [json.loads(tensors[0]["data"][0])[1][key] for key in ("start", "end")] == [4, 7]


async def test_a_client_that_leaves_cancels_and_a_lost_replica_costs_only_time(stand, serve, minibert):
    process = await serve(minibert)
    lost = asyncio.Event()

    async def keep_asking(texts: int) -> list[int]:
        """Until the replica is lost: one request is over before a fast machine has reported that it runs."""
        counts = []
        while not counts or not lost.is_set():
            counts.append(len(numbers(await post(stand, input=[TEXTS[0]] * texts))))
        return counts

    async def metric(name: str) -> float:
        series = f'llmos_replica_{name}{{model="minibert",replica="{process.id}"}} '
        lines = (await stand.client.get("/metrics")).text.splitlines()
        return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))

    async def is_busy() -> bool:
        return await metric("running") + await metric("waiting") > 0

    async def is_idle() -> bool:
        return not await is_busy()

    async def has_dropped_some() -> bool:
        """Once more if all were done, on a fast machine, before they could be cancelled."""
        busy = [asyncio.create_task(keep_asking(2048)) for _ in range(12)]
        await eventually(is_busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await eventually(is_idle)
        return await metric("cancelled_total") > 0

    await eventually(has_dropped_some, timeout=60)
    await serve(minibert)
    asked = [asyncio.create_task(keep_asking(1024)) for _ in range(6)]
    await eventually(is_busy)
    process.process.kill()
    lost.set()
    assert {count for counts in await asyncio.gather(*asked) for count in counts} == {1024}


async def test_classes_and_ranks(stand, serve, classifier, reranker):
    await serve(classifier)
    await serve(reranker)
    logits = classifier.vectors(TEXTS)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answer = (await post(stand, "/v1/classify", model="mood", input=TEXTS)).json()
    np.testing.assert_allclose([entry["probs"] for entry in answer["data"]], expected, atol=1e-5)
    assert [entry["label"] for entry in answer["data"]] == [("bad", "good", "mixed")[row.argmax()] for row in logits]

    pairs = reranker.encoder.run(reranker.tokenizer.texts([TEXTS[0]] * 3, TEXTS[1:]))
    scores = (1 / (1 + np.exp(-pairs[:, 0]))).tolist()
    answer = await post(
        stand, "/v1/rerank", model="ranker", query=TEXTS[0], documents=[*TEXTS[1:3], {"text": TEXTS[3]}]
    )
    results = answer.json()["results"]
    assert [result["index"] for result in results] == sorted(range(3), key=lambda index: -scores[index])
    for result in results:
        assert result["relevance_score"] == pytest.approx(scores[result["index"]], abs=1e-5)
        assert result["document"]["text"] == TEXTS[1:][result["index"]]
    best = await post(
        stand, "/v1/rerank", model="ranker", query="a", documents=TEXTS, top_n=1, return_documents=False
    )
    assert [list(result) for result in best.json()["results"]] == [["index", "relevance_score"]]
    several = await post(stand, "/v1/rerank", model="mood", query="a", documents=["b"])
    assert several.status_code == 400
    assert "3 labels" in several.json()["error"]["message"]


@pytest.mark.parametrize("ahead", ["-660", "660"])
async def test_an_encoder_whose_clock_is_wrong_answers_within_the_deadline(stand, serve, minibert, ahead):
    await serve(minibert, module="tests.support.fakes.altered_replica", ALTERED_CLOCK_AHEAD=ahead)
    numbers(await post(stand, input=TEXTS[0]))


async def test_a_request_goes_to_another_encoder_when_the_first_one_hangs(stand, serve, minibert, tmp_path):
    stalls = [tmp_path / "stall-0", tmp_path / "stall-1"]
    replicas = [
        await serve(minibert, module="tests.support.fakes.altered_replica", ALTERED_STALL_FILE=str(stall))
        for stall in stalls
    ]
    expected = numbers(await post(stand, input=TEXTS[0]))
    first = min(replicas, key=lambda replica: replica.id)  # of two that are idle, the first in order was asked
    stalls[replicas.index(first)].touch()
    np.testing.assert_array_equal(numbers(await post(stand, input=TEXTS[0])), expected)
    await first.until(ReplicaState.STALLED)
    np.testing.assert_array_equal(numbers(await post(stand, input=TEXTS[0])), expected)
    stalls[replicas.index(first)].unlink()
    await first.until(ReplicaState.READY)
