"""`/v1/files`, through the `openai` package and through plain HTTP."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import openai
import pytest

from shared.contracts.file import FILES_BUCKET, UploadedFile
from shared.contracts.registry import COLLECT_GARBAGE, CollectGarbage
from tests.integration.fine_tuning.conftest import ADMIN_KEY, CHATS, PAIRS
from tests.support.factories.blobs import sha256


async def test_a_file_is_uploaded_listed_read_and_deleted(stand):
    file = await stand.upload(name="chäts.jsonl")
    assert (file.object, file.filename, file.bytes, file.purpose) == ("file", "chäts.jsonl", len(CHATS), "fine-tune")
    assert (file.status, file.expires_at) == ("processed", None)
    assert abs(file.created_at - datetime.now(UTC).timestamp()) < 60
    assert await stand.client.files.retrieve(file.id) == file
    assert [one.id async for one in stand.client.files.list()] == [file.id]
    content = await stand.client.files.content(file.id)
    assert content.content == CHATS
    assert await stand.system.store.blobs() == sorted({sha256(CHATS), sha256(b"weights")})
    deleted = await stand.client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    with pytest.raises(openai.NotFoundError, match=f"there is no file '{file.id}'"):
        await stand.client.files.retrieve(file.id)


async def test_a_list_has_pages_orders_and_purposes(stand):
    ids = [(await stand.upload(name=f"{number}.jsonl")).id for number in range(5)]
    other = await stand.upload(b"anything", "notes.txt", "user_data")
    listed = [one.id async for one in stand.client.files.list(limit=2, order="asc")]
    assert listed == [*ids, other.id]
    newest = await stand.client.files.list(limit=2)
    assert [one.id for one in newest.data] == [other.id, ids[4]]
    assert newest.has_more
    second = await newest.get_next_page()
    assert [one.id for one in second.data] == [ids[3], ids[2]]
    assert [one.id async for one in stand.client.files.list(purpose="user_data")] == [other.id]
    for wrong, param in (
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=file-9", "after"),
    ):
        answer = await stand.http.get(f"/v1/files?{wrong}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_large_files_pass_and_memory_does_not_grow_with_them(stand, monkeypatch):
    """What arrives is handed on: no piece that reaches the store is larger than what the socket gave."""
    pieces = []
    store_type = type(stand.system.store)
    put_new = store_type.put_new

    async def noted(self, chunks):
        async def measured():
            async for chunk in chunks:
                pieces.append(len(chunk))
                yield chunk

        return await put_new(self, measured())

    monkeypatch.setattr(store_type, "put_new", noted)
    row = b'{"messages": [{"role": "user", "content": "' + b"x" * 1000 + b'"}]}\n'
    data = row * 20_000
    file = await stand.upload(data)
    assert file.bytes == len(data)
    assert max(pieces) < len(data) / 10
    assert (await stand.client.files.content(file.id)).content == data


@pytest.mark.parametrize("gateway_settings", [{"max_file": 4096}])
async def test_a_file_above_the_limit_is_413_whether_its_length_is_announced_or_not(stand):
    with pytest.raises(openai.APIStatusError, match="LLMOS_GATEWAY_MAX_FILE") as announced:
        await stand.upload(CHATS * 20_000)
    assert (announced.value.status_code, announced.value.code) == (413, "payload_too_large")

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 100
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await stand.http.post("/v1/files", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "file")
    assert await stand.system.store.blobs() == [sha256(b"weights")]
    assert (await stand.upload(b"x" * 4096, purpose="user_data")).bytes == 4096


BAD_FILES = [
    (b"", "has no rows"),
    (CHATS + b'{"messages": [\n', r"chats.jsonl, line 13: not JSON"),
    (b'{"prompt": "a", "completion": "b"}\n', "line 1: expected an object with messages .* keys completion, prompt"),
    (b"[1]\n", "line 1: expected an object"),
    (CHATS + PAIRS, "line 13: a row of another form"),
    (CHATS * 100 + b'{"messages": "\xff"}\n', "line 1201: not UTF-8: the byte 0xff"),
]


@pytest.mark.parametrize(("data", "message"), BAD_FILES)
@pytest.mark.parametrize("purpose_first", [True, False])
async def test_a_training_file_that_is_none_is_refused_with_its_line(stand, data, message, purpose_first):
    fields = [("purpose", (None, "fine-tune")), ("file", ("chats.jsonl", data))]
    answer = await stand.http.post("/v1/files", files=fields if purpose_first else fields[::-1])
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "file", "corrupt_file")
    assert re.search(message, error["message"]), error["message"]
    assert [one.id async for one in stand.client.files.list()] == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("file", ("a.jsonl", CHATS))], "purpose"),
        ([("purpose", (None, "fine-tune"))], "file"),
        ([("purpose", (None, "fun")), ("file", ("a.jsonl", CHATS))], "purpose"),
        ([("purpose", (None, "fine-tune")), ("files", ("a.jsonl", CHATS))], "files"),
        ([("purpose", (None, "user_data")), ("file", ("a", b"")), ("file", ("b", b""))], "file"),
        ([("purpose", (None, "user_data")), ("file", ("a", b"")), ("expires_after[seconds]", (None, "60"))],
         "expires_after.anchor"),
        ([("purpose", (None, "user_data")), ("file", ("a", b"")), ("expires_after[anchor]", (None, "created_at")),
          ("expires_after[seconds]", (None, "60"))], "expires_after.seconds"),
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_names_its_field(stand, fields, param):
    answer = await stand.http.post("/v1/files", files=fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


async def test_a_body_that_is_no_form_is_refused(stand):
    answer = await stand.http.post("/v1/files", json={"purpose": "fine-tune"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "content-type")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for cut in (b"", b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine', b"nonsense"):
        answer = await stand.http.post("/v1/files", content=cut, headers=headers)
        assert answer.status_code == 400, cut


async def test_a_file_expires_and_one_for_a_batch_does_so_by_itself(stand):
    day = {"anchor": "created_at", "seconds": 86400}
    file = await stand.client.files.create(file=("a.txt", b"a"), purpose="user_data", expires_after=day)
    assert file.expires_at == file.created_at + 86400
    batch = await stand.upload(b"{}\n", "batch.jsonl", "batch")
    assert batch.expires_at == batch.created_at + 30 * 86400
    kv = stand.system.bus.kv(FILES_BUCKET)
    record = UploadedFile.decode((await kv.get(file.id)).value)
    past = record.model_copy(update={"expires_at": datetime.now(UTC) - timedelta(seconds=1)})
    await kv.put(file.id, past.encode())
    assert [one.id async for one in stand.client.files.list()] == [batch.id]
    assert await kv.get(file.id) is None
    with pytest.raises(openai.NotFoundError, match=r"the newest: .*batch"):
        await stand.client.files.content(file.id)


async def test_garbage_collection_keeps_a_file_until_it_is_deleted(stand):
    file = await stand.upload()
    collect = CollectGarbage(dry_run=False, grace=0)
    assert sha256(CHATS) not in (await stand.system.ask(COLLECT_GARBAGE, collect)).blobs
    await stand.client.files.delete(file.id)
    assert (await stand.system.ask(COLLECT_GARBAGE, collect)).blobs == (sha256(CHATS),)


async def test_the_sync_client_uploads_a_file_object(stand, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(CHATS)

    def upload():
        with (
            openai.OpenAI(base_url=f"{stand.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client,
            path.open("rb") as file,
        ):
            return client.files.create(file=file, purpose="fine-tune")

    assert (await asyncio.to_thread(upload)).filename == "rows.jsonl"


async def test_a_key_for_inference_may_not_upload(stand):
    made = (await stand.http.post("/llmos/v1/keys", json={"name": "chat", "scopes": ["inference"]})).json()
    train = (await stand.http.post("/llmos/v1/keys", json={"name": "train", "scopes": ["train"]})).json()
    fields = {"file": ("a.jsonl", CHATS), "purpose": (None, "fine-tune")}

    async def status(key):
        headers = {"authorization": f"Bearer {key}"}
        return (await stand.http.post("/v1/files", files=fields, headers=headers)).status_code

    assert [await status(made["key"]), await status(train["key"])] == [403, 200]
