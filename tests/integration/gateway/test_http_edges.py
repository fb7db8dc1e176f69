"""What clients, proxies and browsers expect of HTTP around the API: routes, methods, keys, types of bodies, CORS."""

import asyncio
import gzip
import signal
from pathlib import Path

import httpx
import orjson
import pytest

from services.gateway.http.openapi import DOCUMENT_PATH
from tests.integration.gateway.conftest import ADMIN_KEY, Stand, chat_body
from tests.integration.gateway.test_gateway_life import answers, process
from tests.integration.gateway.test_gateway_requests import error_of
from tests.support.fakes.scripted_tokens import expected_text
from tests.support.harness.raw_http import raw_client
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer, free_port

CHAT = "/v1/chat/completions"
UNKNOWN = ("/", "/v1", "/v1/", "/v1/nothing", "/v1/models/", "/llmos/v1/nothing", "/docs", "/v1beta/models", "*")


async def key(stand: Stand, *scopes: str) -> str:
    made = await stand.client.post("/llmos/v1/keys", json={"name": "test", "scopes": scopes})
    return str(made.json()["key"])


def post(body: bytes, headers: str = "", path: str = CHAT, authorization: str = f"Bearer {ADMIN_KEY}") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n".encode() + body


@pytest.mark.parametrize(
    "offer",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n",
    ],
)
async def test_chats_that_offer_an_upgrade_are_answered(stand: Stand, offer: str) -> None:
    await stand.deploy()
    await stand.replica()
    whole, stream = orjson.dumps(chat_body()), orjson.dumps(chat_body(stream=True))

    def chat() -> tuple[str, bytes]:
        with raw_client(stand.url) as client:
            client.send(post(whole, offer), post(stream, offer))
            return client.response().json["choices"][0]["message"]["content"], client.response().body

    text, events = await asyncio.to_thread(chat)
    assert text == expected_text("tell me words", 7, 6)
    assert events.endswith(b"data: [DONE]\n\n")


async def test_a_request_in_the_body_of_an_upgrade_is_not_served(stand: Stand) -> None:
    hidden = post(b'{"name": "smuggled"}', path="/llmos/v1/keys")

    def send() -> int:
        with raw_client(stand.url) as client:
            client.send(post(hidden, "Connection: Upgrade\r\nUpgrade: h2c\r\n", authorization="Bearer none"))
            status = client.response().status
            client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.response().json == {"status": "ok"}
            return status

    assert await asyncio.to_thread(send) == 401
    assert "smuggled" not in (await stand.client.get("/llmos/v1/keys")).text


async def test_an_unknown_path_is_404_with_every_key_and_with_none(stand: Stand) -> None:
    keys = [await key(stand, scope) for scope in ("inference", "read", "admin")]
    for given in (None, "llmos-wrong", *keys):
        headers = {"authorization": f"Bearer {given}"} if given else {}
        async with httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
            for path in UNKNOWN:
                for method in ("GET", "POST", "DELETE", "OPTIONS"):
                    answer = await client.request(method, path if path != "*" else "/%2A")
                    assert answer.status_code == 404, (given, method, path, answer.text)
                    assert error_of(answer)["code"] == "not_found"
            for path in UNKNOWN:
                assert (await client.head(path)).status_code == 404


async def test_on_a_known_path_the_key_comes_first_and_then_the_method(stand: Stand) -> None:
    scopes = ("inference", "read", "admin")
    keys = {scope: await key(stand, scope) for scope in scopes}
    async with httpx.AsyncClient(base_url=stand.url) as client:
        for method, path, allowed in (
            ("GET", CHAT, "POST"),
            ("DELETE", "/v1/models", "GET, HEAD"),
            ("OPTIONS", "/llmos/v1/nodes", "GET, HEAD"),
            ("PATCH", f"/llmos/v1/blobs/{'0' * 64}", "GET, HEAD, PUT"),
            ("PUT", "/llmos/v1/keys", "GET, HEAD, POST"),
        ):
            assert (await client.request(method, path)).status_code == 401
            for scope in scopes:
                headers = {"authorization": f"Bearer {keys[scope]}"}
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 405, (method, path, scope, answer.text)
                assert answer.headers["allow"] == allowed
                assert error_of(answer)["code"] == "method_not_allowed"


async def test_every_get_route_takes_head_and_answers_it_without_a_body(stand: Stand) -> None:
    document = (await stand.client.get(DOCUMENT_PATH)).json()
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    assert len(paths) > 10
    for path in paths:
        filled = path.replace("{", "").replace("}", "")
        got = await stand.client.get(filled)
        head = await stand.client.head(filled)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert "transfer-encoding" not in head.headers


async def test_health_has_both_names_and_needs_no_key(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as nobody:
        for path in ("/health", "/healthz"):
            assert (await nobody.get(path)).json() == {"status": "ok"}
            assert (await nobody.head(path)).status_code == 200
            assert (await nobody.post(path)).status_code == 405


async def test_a_key_is_read_from_x_api_key_too(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as client:
        for headers, status in (
            ({"x-api-key": ADMIN_KEY}, 200),
            ({"X-API-KEY": ADMIN_KEY}, 200),
            ({"x-api-key": ADMIN_KEY, "authorization": "Basic dXNlcjpwYXNz"}, 200),  # a proxy's password
            ({"x-api-key": ADMIN_KEY, "authorization": "Bearer llmos-wrong"}, 401),
            ({"x-api-key": "llmos-wrong"}, 401),
            ({"x-api-key": ""}, 401),
        ):
            answer = await client.get("/v1/models", headers=headers)
            assert answer.status_code == status, headers


async def test_all_names_of_rerank_are_of_the_model_api(stand: Stand) -> None:
    headers = {"authorization": f"Bearer {await key(stand, 'inference')}"}
    async with httpx.AsyncClient(base_url=stand.url, headers=headers) as client:
        for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
            answer = await client.post(path, json={"model": "none", "query": "a", "documents": ["b"]})
            assert answer.status_code == 404
            assert error_of(answer)["param"] == "model"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "zstd", "GZIP"])
async def test_a_body_in_another_encoding_is_415(stand: Stand, encoding: str) -> None:
    body = gzip.compress(orjson.dumps(chat_body()))
    for method, path in (("POST", CHAT), ("POST", "/llmos/v1/keys"), ("PUT", f"/llmos/v1/blobs/{'0' * 64}")):
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        answer = await stand.client.request(method, path, content=body, headers=headers)
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "identity"
        assert encoding.lower() in error_of(answer)["message"]


async def test_json_is_taken_with_and_without_its_type_and_other_types_are_415(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    body = orjson.dumps(chat_body(max_tokens=1))
    for given, status in (
        (None, 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("text/plain;application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ):
        headers = {"content-encoding": "identity"} | ({} if given is None else {"content-type": given})
        answer = await stand.client.post(CHAT, content=body, headers=headers)
        assert answer.status_code == status, (given, answer.text)
        if status == 415:
            assert "application/json" in error_of(answer)["message"]


async def test_requests_that_cannot_be_read_are_counted_and_have_ids(stand: Stand) -> None:
    def send() -> None:
        with raw_client(stand.url) as client:
            client.send(b"GET / HTTP/1.1\nHost: x\n\n")
            response = client.response()
            assert response.status == 400
            assert "HTTP/1.1" in response.error["message"]

    await asyncio.to_thread(send)
    text = (await stand.client.get("/metrics")).text
    assert 'llmos_http_requests_total{method="GET",model="",route="unmatched",status="400"} 1.0' in text
    assert "llmos_http_requests_in_flight 1.0" in text


ORIGIN = "https://chat.example.com"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


async def test_without_the_setting_no_page_of_another_origin_may_call(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as page:
        assert (await page.options(CHAT, headers=PREFLIGHT)).status_code == 401
        answer = await page.get("/healthz", headers={"origin": ORIGIN})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("gateway_settings", [{"cors_origins": f"{ORIGIN}, http://localhost:3000"}])
async def test_pages_of_the_named_origins_may_call_and_read_errors(stand: Stand) -> None:
    await stand.deploy()
    await stand.replica()
    async with httpx.AsyncClient(base_url=stand.url) as page:
        allowed = await page.options(CHAT, headers=PREFLIGHT)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        foreign = await page.options(CHAT, headers={**PREFLIGHT, "origin": "https://evil.example.com"})
        assert foreign.status_code == 400
        assert "access-control-allow-origin" not in foreign.headers
        for headers, status in (({}, 401), ({"authorization": f"Bearer {ADMIN_KEY}"}, 200)):
            for stream in (False, True):
                body = chat_body(max_tokens=2, stream=stream)
                answer = await page.post(CHAT, json=body, headers={"origin": "http://localhost:3000", **headers})
                assert answer.status_code == status
                assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
                exposed = answer.headers["access-control-expose-headers"].split(", ")
                assert {"x-request-id", "x-trace-id"} <= set(exposed)
                assert "Origin" in answer.headers["vary"]
        answer = await page.get("/healthz", headers={"origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("gateway_settings", [{"cors_origins": "*"}])
async def test_all_origins_may_be_allowed(stand: Stand) -> None:
    async with httpx.AsyncClient(base_url=stand.url) as page:
        assert (await page.options(CHAT, headers=PREFLIGHT)).headers["access-control-allow-origin"] == "*"
        assert (await page.get("/healthz", headers=PREFLIGHT)).headers["access-control-allow-origin"] == "*"


async def test_a_gateway_stops_at_once_with_idle_connections(server: NatsServer, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with process(server, tmp_path, port) as gateway, httpx.AsyncClient(base_url=url) as client:
        await eventually(lambda: answers(client), timeout=20)

        def idle() -> bool:
            with raw_client(url) as used:
                used.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert used.response().status == 200
                gateway.send_signal(signal.SIGTERM)
                return used.closed()

        assert await asyncio.to_thread(idle)
        assert await asyncio.wait_for(gateway.wait(), timeout=8) == 0  # the drain alone could take 10 s
