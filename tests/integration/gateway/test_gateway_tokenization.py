"""`/tokenize`, `/detokenize` and `/tokenizer_info` as vLLM's clients use them, on real replicas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from devtools.convert.encoder.version import convert_encoder
from shared.contracts.manifest import Manifest, Task
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment, ReplicaState, Resources
from shared.contracts.serving import ReplicaOptions
from shared.storage.directory import DirectoryStore
from shared.text.tokenizer import Tokenizer
from tests.integration.gateway.conftest import Stand
from tests.support.harness.replicas import replica_process, store_version
from tests.support.harness.wait import eventually
from tests.support.models.small_encoder import write_small_encoder
from tests.support.models.small_model import TEMPLATE
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
MAX_LEN = 128
MESSAGES = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def encoder_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("encoder")
    version = folder / "version"
    manifest: Manifest = convert_encoder(write_small_encoder(folder / "minibert"), version)
    store = DirectoryStore(folder / "store")
    return folder / "store", asyncio.run(store_version(store, version, manifest, "minibert"))


@asynccontextmanager
async def deployed(
    stand: Stand, name: str, version: tuple[Path, str], *, task: Task = "generate", max_len: int = MAX_LEN
) -> AsyncIterator[None]:
    """A deployment with one replica that is ready."""
    store, digest = version
    deployment = Deployment(
        name=name,
        model=name,
        version=1,
        digest=digest,
        task=task,
        options=ReplicaOptions(max_len=max_len),
        resources=Resources(memory=1, threads=1),
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
    )
    await stand.bus.kv(DEPLOYMENTS_BUCKET).put(name, deployment.encode())
    cache = stand.folder / "cache"
    async with replica_process(
        stand.bus, stand.nats.url, store, cache, digest, model=name, max_len=max_len
    ) as process:
        await process.until(ReplicaState.READY)

        async def ready() -> bool:
            answer = await stand.client.get(f"/v1/models/{name}")
            return answer.status_code == 200 and bool(answer.json()["ready_replicas"])

        await eventually(ready)
        yield


@pytest.fixture
async def small(stand: Stand, small_store: tuple[Path, str]) -> AsyncIterator[Stand]:
    async with deployed(stand, "small", small_store):
        yield stand


async def tokenize(stand: Stand, **body: object) -> dict[str, object]:
    answer = await stand.client.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def rendered(text: str) -> list[int]:
    return TOKENIZER.encode(text)


async def test_a_prompt_goes_to_tokens_and_back(small: Stand) -> None:
    ids = TOKENIZER.encode("hello there<|im_end|>")
    found = await tokenize(small, model="small", prompt="hello there<|im_end|>")
    assert found == {"count": len(ids), "max_model_len": MAX_LEN, "tokens": ids, "token_strs": None}
    named = await tokenize(small, prompt="hello there<|im_end|>", return_token_strs=True, add_special_tokens=False)
    assert named["tokens"] == ids
    assert named["token_strs"] == [TOKENIZER.token(token) for token in ids]
    back = await small.client.post("/detokenize", json={"tokens": ids})
    assert back.json() == {"prompt": "hello there<|im_end|>"}
    text = await tokenize(small, prompt="hello there<|im_end|>", parse_special=False)
    assert text["tokens"] == TOKENIZER.encode_plain("hello there<|im_end|>") != ids
    assert (await tokenize(small, prompt=""))["count"] == 0


async def test_a_completion_reads_control_tokens_in_its_prompt_only_if_asked(small: Stand) -> None:
    text = "hello<|im_end|>there"
    for parse_special, expected in ((None, TOKENIZER.encode_plain(text)), (True, TOKENIZER.encode(text))):
        body = {"model": "small", "prompt": text, "max_tokens": 1, "return_token_ids": True}
        asked = await small.client.post("/v1/completions", json=body | {"parse_special": parse_special})
        assert asked.json()["choices"][0]["prompt_token_ids"] == expected
    chat = await small.chat(model="small", messages=MESSAGES, parse_special=True)
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, "parse_special")


async def test_messages_have_the_tokens_that_a_chat_with_them_has(small: Stand) -> None:
    found = await tokenize(small, model="small", messages=MESSAGES)
    assert found["tokens"] == rendered("<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\n")
    chat = await small.chat(model="small", messages=MESSAGES, max_tokens=1)
    assert chat.json()["usage"]["prompt_tokens"] == found["count"]
    open_ended = await tokenize(small, messages=MESSAGES, add_generation_prompt=False)
    assert open_ended["tokens"] == rendered("<|im_start|>user\nhello there<|im_end|>\n")


async def test_a_last_message_can_be_left_open(small: Stand) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "General "}]
    begun = "<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\nGeneral "
    for more in ({"add_generation_prompt": False}, {}):
        found = await tokenize(small, messages=messages, continue_final_message=True, **more)
        assert found["tokens"] == rendered(begun)


async def test_tools_are_part_of_the_prompt_unless_they_are_switched_off(small: Stand) -> None:
    tools = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    ]
    without = await tokenize(small, messages=MESSAGES)
    found = await tokenize(small, messages=MESSAGES, tools=tools)
    chat = await small.chat(model="small", messages=MESSAGES, tools=tools, max_tokens=1)
    assert chat.status_code in {200, 400}, chat.text
    off = await tokenize(small, messages=MESSAGES, tools=tools, tool_choice="none")
    assert off["tokens"] == without["tokens"]
    assert isinstance(found["count"], int)
    assert isinstance(without["count"], int)
    assert found["count"] > without["count"]


async def test_a_text_longer_than_the_context_is_counted_all_the_same(small: Stand) -> None:
    text = "hello " * 50_000  # with its strings, far more than one message of the bus
    found = await tokenize(small, prompt=text, return_token_strs=True)
    assert found["tokens"] == TOKENIZER.encode(text)
    too_long = await small.client.post("/tokenize", json={"prompt": "x" * 1_000_001})
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (413, "prompt")


async def test_a_client_that_keeps_its_tokenizer_here_finds_what_it_needs(small: Stand) -> None:
    """The requests of lm-evaluation-harness with `tokenizer_backend=remote`, which name no model."""
    info = (await small.client.get("/tokenizer_info")).json()
    assert info["eos_token"] == TOKENIZER.token(2)
    assert info["bos_token"] == TOKENIZER.token(1)
    assert info["pad_token"] is None
    assert info["chat_template"] == TEMPLATE
    assert info["tokenizer_class"]
    assert info["model_max_length"] == MAX_LEN
    eos = await tokenize(small, prompt=info["eos_token"], add_special_tokens=False)
    assert eos["tokens"] == [2]


WRONG: list[tuple[str, dict[str, object], str, str]] = [
    ("/tokenize", {}, "exactly one of prompt and messages", "prompt"),
    ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "exactly one of prompt and messages", "prompt"),
    ("/tokenize", {"prompt": 3}, "prompt", "prompt"),
    ("/tokenize", {"messages": []}, "messages", "messages"),
    ("/tokenize", {"messages": MESSAGES, "parse_special": True}, "parse_special is for prompt", "parse_special"),
    ("/tokenize", {"prompt": "a", "promt": "b"}, "unrecognized request argument: promt", "promt"),
    (
        "/tokenize",
        {"messages": MESSAGES, "add_generation_prompt": True, "continue_final_message": True},
        "exclude each other",
        "continue_final_message",
    ),
    ("/detokenize", {}, "tokens is required", "tokens"),
    ("/detokenize", {"tokens": [3, 1_000_000]}, "tokens.1 is 1000000; this model's token ids are 0 to", "tokens"),
    ("/detokenize", {"tokens": [-1]}, "tokens.0", "tokens.0"),
    ("/detokenize", {"tokens": [1 << 70]}, "tokens.0", "tokens.0"),
    ("/detokenize", {"tokens": [True]}, "tokens.0", "tokens.0"),
    ("/detokenize", {"tokens": "hello"}, "tokens", "tokens"),
    ("/detokenize", {"tokens": [1] * 262_145}, "tokens", "tokens"),
]


async def test_wrong_requests_are_400_and_name_the_field(small: Stand) -> None:
    for path, body, says, param in WRONG:
        answer = await small.client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), error
        assert says in error["message"]


async def test_an_unknown_model_is_404_and_a_missing_one_a_question_where_there_are_several(
    small: Stand, encoder_store: tuple[Path, str]
) -> None:
    unknown = await small.client.post("/tokenize", json={"model": "other", "prompt": "a"})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (404, "model")
    assert "small" in unknown.json()["error"]["message"]
    assert (await small.client.get("/tokenizer_info", params={"model": "other"})).status_code == 404
    async with deployed(small, "minibert", encoder_store, task="embed", max_len=24):
        assert (await tokenize(small, prompt="a"))["max_model_len"] == MAX_LEN, "the only one that generates text"
        await an_encoder_has_its_tokenizer_too(small)
        await small.deploy("twin")
        several = await small.client.post("/tokenize", json={"prompt": "a"})
        assert (several.status_code, several.json()["error"]["param"]) == (400, "model")
        assert "minibert, small, twin" in several.json()["error"]["message"]
        assert (await small.client.get("/tokenizer_info")).status_code == 400
        assert (await small.client.get("/tokenizer_info", params={"model": "small"})).status_code == 200


async def an_encoder_has_its_tokenizer_too(stand: Stand) -> None:
    found = await tokenize(stand, model="minibert", prompt="paris is", return_token_strs=True)
    assert found["token_strs"] == ["[CLS]", "paris", "is", "[SEP]"]
    assert found["max_model_len"] == 24
    plain = await tokenize(stand, model="minibert", prompt="paris is", add_special_tokens=False)
    back = await stand.client.post("/detokenize", json={"model": "minibert", "tokens": plain["tokens"]})
    assert back.json() == {"prompt": "paris is"}
    wrong = await stand.client.post("/detokenize", json={"model": "minibert", "tokens": [9999]})
    assert wrong.status_code == 400
    chat = await stand.client.post("/tokenize", json={"model": "minibert", "messages": MESSAGES})
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, "messages")
    info = (await stand.client.get("/tokenizer_info", params={"model": "minibert"})).json()
    assert (info["pad_token"], info["chat_template"]) == ("[PAD]", None)


async def test_a_key_for_inference_is_enough_and_a_replica_that_is_gone_is_503(stand: Stand) -> None:
    created = await stand.client.post("/llmos/v1/keys", json={"name": "app", "scopes": ["inference"]})
    reader = await stand.client.post("/llmos/v1/keys", json={"name": "eye", "scopes": ["read"]})
    await stand.deploy("small")
    for path, method in (("/tokenize", "POST"), ("/detokenize", "POST"), ("/tokenizer_info", "GET")):
        body = {"prompt": "a", "tokens": [1]}
        statuses = []
        for made in (created, reader):
            headers = {"authorization": f"Bearer {made.json()['key']}"}
            async with httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
                sent = {key: body[key] for key in body if (key == "tokens") == (path == "/detokenize")}
                answer = await client.request(method, path, json=None if method == "GET" else sent)
                statuses.append(answer.status_code)
        assert statuses == [503, 503 if method == "GET" else 403]
        async with httpx.AsyncClient(base_url=stand.url) as client:
            assert (await client.request(method, path)).status_code == 401
