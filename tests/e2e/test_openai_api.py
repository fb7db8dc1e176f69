"""The API as applications use it, on the real model."""

import asyncio
import re

import openai
import orjson
import pytest

from tests.support.harness.embedded import BRIEF, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

QUESTIONS = [
    "What is the capital of France?",
    "Name three primary colours.",
    "Write a haiku about the sea.",
    "What is 12 times 12?",
    "Explain photosynthesis in one sentence.",
    "Translate 'good morning' to French.",
    "List four mammals.",
    "Why is the sky blue?",
    "What does a compiler do?",
    "Give me a recipe for tea.",
    "Who wrote Hamlet?",
    "What is a prime number? Give a few examples and say why they matter in cryptography.",
    "Say hello.",
    "Describe a cat to somebody who has never seen one.",
    "How far is the moon?",
    "Summarise: the quick brown fox jumps over the lazy dog while the sun sets behind the hill.",
]


@pytest.fixture
def client(demo):
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, max_retries=0, timeout=120) as client:
        yield client


async def _ask(client: openai.AsyncOpenAI, question: str) -> str:
    """Always 64 tokens: a short answer could end before the last question is begun."""
    answer = await client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=64,
        extra_body={"ignore_eos": True},
    )
    return answer.choices[0].message.content or ""


def test_openai_client_streams_a_chat_with_usage(client):
    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            messages=[
                {"role": "system", "content": BRIEF},
                {"role": "user", "content": "What is the capital of France?"},
            ],
            temperature=0,
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert len(chunks) > 4
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens > 20


def test_a_predictable_answer_takes_fewer_steps_and_loses_no_token(client, demo):
    """Tokens that are computed ahead come several in a piece; each is there, with its log probability."""

    def counted(name: str) -> float:
        with demo.http() as http:
            text = http.get("/metrics").text
        return sum(map(float, re.findall(rf"^llmos_replica_{name}\{{.*\}} ([\d.e+]+)$", text, re.MULTILINE)))

    before = counted("accepted_tokens_total")
    chunks = list(
        client.completions.create(
            model="smollm2",
            prompt="red green blue red green blue red green blue red green blue red",
            max_tokens=60,
            temperature=0,
            logprobs=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
    )
    pieces = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices and chunk.choices[0].logprobs]
    tokens = [token for each in pieces for token in each.tokens]
    assert chunks[-1].usage.completion_tokens == len(tokens) == 60
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "".join(tokens)
    assert len(pieces) < 50
    until(lambda: counted("accepted_tokens_total") - before >= 60 - len(pieces), 10, "accepted tokens in the metrics")


def test_openai_client_lists_models_and_completes(client):
    assert [model.id for model in client.models.list()] == ["smollm2"]
    done = client.completions.create(model="smollm2", prompt="Once upon a time", max_tokens=8, temperature=0)
    assert done.usage is not None
    assert done.usage.completion_tokens == 8
    assert done.choices[0].finish_reason == "length"


async def test_sixteen_at_once_share_steps_and_each_answer_equals_its_answer_alone(demo):
    async with openai.AsyncOpenAI(base_url=f"{demo.url}/v1", api_key=demo.key, max_retries=0, timeout=240) as client:
        alone = [await _ask(client, question) for question in QUESTIONS]
        together = await asyncio.gather(*(_ask(client, question) for question in QUESTIONS))
    assert together == alone
    with demo.http() as http:
        metrics = http.get("/metrics").text
    largest = re.search(r"^llmos_replica_max_batch\{.*\} ([\d.]+)$", metrics, re.MULTILINE)
    assert largest is not None, metrics
    assert float(largest[1]) == 16


def test_same_seed_gives_the_same_answer_and_another_seed_another(client):
    def sample(seed: int) -> str:
        done = client.completions.create(
            model="smollm2", prompt="My favourite animal is", max_tokens=24, temperature=1.0, seed=seed
        )
        return done.choices[0].text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(1, 5)}) > 1


def test_stop_string_ends_the_answer_and_is_not_in_it(client):
    done = client.completions.create(model="smollm2", prompt="1, 2, 3, 4,", max_tokens=32, temperature=0, stop=[" 7"])
    assert done.choices[0].finish_reason == "stop"
    assert "7" not in done.choices[0].text
    assert "6" in done.choices[0].text


def test_a_trace_is_unbroken_from_http_to_decode(demo, client):
    raw = client.chat.completions.with_raw_response.create(
        model="smollm2", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0
    )
    trace_id = raw.headers["x-trace-id"]
    spans: dict[str, dict] = {}

    def whole() -> bool:
        done = demo.cli("trace", trace_id, "--json")
        spans.clear()
        if done.returncode == 0:
            for resource in orjson.loads(done.stdout)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    spans.update({span["spanId"]: span for span in scope["spans"]})
        return {"queue", "prefill", "decode", "POST /v1/chat/completions"} <= {s["name"] for s in spans.values()}

    until(whole, 20, "a whole trace")
    orphans = [
        span["name"] for span in spans.values() if span.get("parentSpanId") and span["parentSpanId"] not in spans
    ]
    assert not orphans
    roots = [span["name"] for span in spans.values() if not span.get("parentSpanId")]
    assert roots == ["POST /v1/chat/completions"]
    attributes = {pair["key"] for span in spans.values() for pair in span.get("attributes", [])}
    assert {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.request.model"} <= attributes
    assert " replica=smollm2-1-" in demo.cli("trace", trace_id).stdout


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"model": "smollm2", ', 400, "JSON"),
        (b'{"model": "smollm2", "messages": "hello"}', 400, "messages"),
        (
            b'{"model": "smollm2", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
            400,
            "temperature",
        ),
        (b'{"model": "nothing", "messages": [{"role": "user", "content": "x"}]}', 404, "smollm2"),
        (b'{"model": "smollm2", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100000}', 400, "4096"),
    ],
    ids=["malformed", "wrong type", "wrong type of a number", "unknown model", "too long"],
)
def test_bad_input_is_told_with_the_field_and_what_to_do(demo, body, status, says):
    with demo.http() as client:
        response = client.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert says in error["message"] + str(error["param"])
    assert response.headers["x-request-id"]


def test_a_prompt_longer_than_the_context_is_refused_naming_both_numbers(demo):
    with demo.http() as client:
        response = client.post(
            "/v1/chat/completions",
            # 1.5 MB: also more than one bus message holds
            json={"model": "smollm2", "messages": [{"role": "user", "content": "word " * 300_000}]},
        )
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert "4096" in response.json()["error"]["message"]


def test_a_wrong_key_is_refused(demo):
    wrong = openai.OpenAI(base_url=f"{demo.url}/v1", api_key="llmos-wrong", max_retries=0)
    with wrong, pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_an_inference_key_may_chat_but_not_deploy(demo):
    made = demo.json("key", "create", "app", "--scope", "inference")
    assert (
        demo.cli(
            "chat", "smollm2", "-m", "Hi", "--max-tokens", "2", "--api-key", made["key"], "--url", demo.url
        ).returncode
        == 0
    )
    refused = demo.cli("deploy", "smollm2", "--api-key", made["key"], "--url", demo.url)
    assert refused.returncode == 1
    assert "scope" in refused.stderr
    assert demo.cli("key", "revoke", made["id"]).returncode == 0
