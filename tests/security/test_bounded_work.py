"""What a client with a key can make the gateway and its replicas do with one request: nothing without a bound."""

import asyncio
import json
from collections.abc import Callable

import orjson
import pytest

from services.gateway.dialects.bounds import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from services.gateway.http.json_size import MAX_CONTAINERS, MAX_ESCAPES, MAX_VALUES, check_json_size
from services.gateway.openai.structured_outputs import MAX_CHOICE_TEXTS
from shared.contracts.replica import MAX_TOGETHER
from shared.contracts.sampling import MAX_LOGIT_BIAS
from shared.contracts.tokenization import MAX_CHARS
from shared.errors import InvalidInput
from tests.integration.gateway.conftest import ADMIN_KEY, MODEL, Stand, chat_body
from tests.support.fakes.scripted_replica import ScriptedReplica
from tests.support.harness.lag import LagProbe, assert_turns
from tests.support.harness.raw_http import RawResponse, raw_client
from tests.support.harness.wait import eventually

CHAT, COMPLETIONS, DETOKENIZE = "/v1/chat/completions", "/v1/completions", "/detokenize"


def dense(key: str, item: bytes, count: int) -> bytes:
    return b'{"model":"%s","%s":[' % (MODEL.encode(), key.encode()) + b",".join([item] * count) + b"]}"


def message(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def text(content: bytes, more: bytes = b"") -> bytes:
    return b'{"model":"%s",%b"prompt":"%b"}' % (MODEL.encode(), more, content)


ATTEMPTS, MOST_LAG_S = 4, 0.05
ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "450,000 messages": (CHAT, lambda: dense("messages", b'{"role":"user","content":""}', 450_000)),
    "8 million token ids": (COMPLETIONS, lambda: dense("prompt", b"1", 8_000_000)),
    "5 million empty prompts": (COMPLETIONS, lambda: dense("prompt", b'""', 5_000_000)),
    "4 million empty lists": (CHAT, lambda: dense("tools", b"[]", 4_000_000)),
    "300,000 stop strings": (COMPLETIONS, lambda: dense("stop", b'"x"', 290_000)),
    "ids to be turned into text": (DETOKENIZE, lambda: dense("tokens", b"1", 8_000_000)),
    "a prompt of 15 MB, 128 times": (COMPLETIONS, lambda: text(b"x, y " * 3_000_000, b'"n":128,')),
    "2.6 million escapes": (COMPLETIONS, lambda: text(b"\\u00e9" * 2_600_000)),
    "5 million quotes in a text": (COMPLETIONS, lambda: text(b'\\",' * 5_000_000)),
    "a conversation of 15 MB": (
        CHAT,
        lambda: orjson.dumps(chat_body(messages=[{"role": "user", "content": "x" * (15 << 20)}])),
    ),
}


async def post(url: str, path: str, body: bytes) -> tuple[RawResponse, LagProbe]:
    """The response to a body, and how the gateway's loop, which is this one, turned meanwhile."""
    loop = asyncio.get_running_loop()

    def send() -> tuple[RawResponse, LagProbe]:
        with LagProbe(loop) as lag, raw_client(url, timeout=60) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
            client.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode(), body)
            return client.response(), lag

    return await asyncio.to_thread(send)


async def replica_with_short_tokens(stand: Stand) -> ScriptedReplica:
    """A replica of 1024 tokens with at most 16 characters each, of which the gateway knows."""
    await stand.deploy()
    replica = await stand.replica()
    replica.chars_per_token = 16
    await eventually(lambda: too_long(stand))
    replica.received.clear()
    return replica


async def too_long(stand: Stand) -> bool:
    answer = await stand.chat(messages=[message("x" * (1024 * 16 + 16))])
    return answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_body_full_of_work_is_refused_in_words_while_the_loop_turns(stand: Stand, attack: str) -> None:
    path, make = ATTACKS[attack]
    replica = await replica_with_short_tokens(stand)
    body, probes = await asyncio.to_thread(make), []
    for _ in range(ATTEMPTS):
        response, probe = await post(stand.url, path, body)
        assert response.status == 400, response.body
        assert any(character.isdigit() for character in response.error["message"])
        probes.append(probe)
        if probe.excess < MOST_LAG_S:
            break
    assert_turns(probes, MOST_LAG_S)
    assert replica.received == []


PART = {"type": "text", "text": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}
BOUNDS = [
    (CHAT, {"messages": [message("x")] * (MAX_MESSAGES + 1)}, "messages", MAX_MESSAGES),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * (MAX_PARTS + 1)}]},
        "messages.0.content",
        MAX_PARTS,
    ),
    (CHAT, {"tools": [TOOL] * (MAX_TOOLS + 1)}, "tools", MAX_TOOLS),
    (CHAT, {"stop": ["x"] * 17}, "stop", 16),
    (CHAT, {"logit_bias": {str(i): 1 for i in range(MAX_LOGIT_BIAS + 1)}}, "logit_bias", MAX_LOGIT_BIAS),
    (CHAT, {"stop_token_ids": [1] * 129}, "stop_token_ids", 128),
    (CHAT, {"guided_choice": ["x"] * (MAX_CHOICE_TEXTS + 1)}, "guided_choice", MAX_CHOICE_TEXTS),
    (COMPLETIONS, {"prompt": ["x"] * 129}, "prompt", 128),
    ("/v1/embeddings", {"input": ["x"] * 2049}, "input", 2048),
]


@pytest.mark.parametrize(("path", "fields", "param", "bound"), BOUNDS, ids=[case[2] for case in BOUNDS])
async def test_each_list_has_a_bound_that_its_error_names_with_the_number(
    stand: Stand, path: str, fields: dict[str, object], param: str, bound: int
) -> None:
    body = chat_body(**fields) if path == CHAT else {"model": MODEL, **fields}
    answer = await stand.client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert str(bound) in error["message"]
    assert str(bound + 1) in error["message"]


async def test_a_text_that_is_not_tokenised_is_refused_before_the_bus(stand: Stand) -> None:
    await stand.deploy()  # without a replica, which would be asked
    for body in ({"prompt": "x" * (MAX_CHARS + 1)}, {"messages": [message("x" * MAX_CHARS), message("x")]}):
        answer = await stand.client.post("/tokenize", json={"model": MODEL, **body})
        assert answer.status_code == 413, answer.text
        assert str(MAX_CHARS) in answer.json()["error"]["message"]


async def test_a_prompt_that_cannot_fit_is_refused_before_the_bus(stand: Stand) -> None:
    replica = await replica_with_short_tokens(stand)
    assert await too_long(stand)
    ids = await stand.client.post(COMPLETIONS, json={"model": MODEL, "prompt": [1] * 1025})
    assert ids.json()["error"]["code"] == "context_length_exceeded"
    assert "maximum context length is 1024 tokens" in ids.json()["error"]["message"]
    assert replica.received == []
    fits = await stand.chat(messages=[message("x" * (1024 * 16))])
    assert fits.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_many_answers_cross_the_bus_as_few_requests_and_are_those_of_requests_alone(
    stand: Stand, stream: bool
) -> None:
    await stand.deploy()
    replica = await stand.replica()
    count = 2 * MAX_TOGETHER + 8
    answer = await stand.chat(n=count, stream=stream)
    assert answer.status_code == 200
    texts = [""] * count
    if stream:
        for line in answer.text.split("\n\n"):
            if line.startswith("data: {"):
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
    else:
        texts = [choice["message"]["content"] for choice in answer.json()["choices"]]
    assert [1 + len(request.further) for request in replica.received] == [MAX_TOGETHER, MAX_TOGETHER, 8]
    assert len({each.request_id for request in replica.received for each in request.answers()}) == count
    requests = [each for request in replica.received for each in request.answers()]
    for index in (0, 1, MAX_TOGETHER, count - 1):
        request = requests[index]
        alone = await stand.chat(seed=request.sampling.seed)
        assert alone.json()["choices"][0]["message"]["content"] == texts[index]


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        (b"[" + b"1," * (MAX_VALUES - 1) + b"1]", True),
        (b"[" + b"1," * (MAX_VALUES + 1) + b"1]", False),
        (b"[" + b"[]," * MAX_CONTAINERS + b"1]", False),
        (b'["' + b"[{,:" * MAX_VALUES + b'"]', True),
        (b'["' + b'\\",[' * (MAX_ESCAPES // 2) + b'"' + b',"]"' * 1000 + b"]", True),
        (b'["' + b"," * MAX_VALUES + b'\\\\",' + b"1," * (MAX_VALUES + 1) + b"1]", False),
        (b'["' + b"\\n" * (MAX_ESCAPES + 1) + b'"]', False),
        (b'["' + b"," * MAX_VALUES, True),  # no JSON: the parser says so
    ],
)
def test_values_are_counted_outside_of_texts_only(body: bytes, passes: bool) -> None:
    if passes:
        check_json_size(body)
    else:
        with pytest.raises(InvalidInput, match=r"at most \d+ are taken"):
            check_json_size(body)
