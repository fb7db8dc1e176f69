"""HTTP on raw sockets: the gateway's server with operations that show what was read."""

import threading
import time
from collections.abc import Iterator

import pytest

from services.gateway.http.http1.connection import MAX_UNREAD
from services.gateway.http.http1.parser import MAX_LINE, MAX_TARGET
from services.gateway.limits.time_limits import TimeLimits
from tests.support.harness.raw_http import RawClient, raw_client
from tests.support.harness.raw_server import RawServer, serving_raw

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    with serving_raw(TimeLimits(), request.param) as started:
        yield started


@pytest.fixture
def hurried() -> Iterator[RawServer]:
    with serving_raw(TimeLimits(keep_alive=0.2, head=0.3, body_window=0.3, linger=0.5)) as started:
        yield started


@pytest.fixture
def client(server: RawServer) -> Iterator[RawClient]:
    with raw_client(server.url) as connected:
        yield connected


def wait_until_served(server: RawServer) -> None:
    deadline = time.monotonic() + 10
    while not server.served:
        assert time.monotonic() < deadline


def request(headers: bytes = b"", body: bytes = b"", line: bytes = b"POST /echo HTTP/1.1") -> bytes:
    return line + b"\r\nHost: x\r\n" + headers + b"\r\n" + body


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET, b"Connection: upgrade\r\nUpgrade: TLS/1.0, x\r\n"])
@pytest.mark.parametrize(("framing", "body"), [(LENGTH, b"hello"), (CHUNKED, CHUNKS)])
def test_an_upgrade_is_ignored_and_the_body_read(
    client: RawClient, offer: bytes, framing: bytes, body: bytes
) -> None:
    whole = request(offer + framing, body)
    for parts in ([whole], [whole[: -len(body)], body], [whole[i : i + 1] for i in range(len(whole))]):
        client.send(*parts)
        response = client.response()
        assert (response.status, response.json["body"]) == (200, "hello")
        assert "upgrade" not in response.headers


def test_the_body_of_an_upgrade_is_never_a_request(server: RawServer, client: RawClient) -> None:
    inner = request(line=b"POST /deny HTTP/1.1")
    client.send(request(H2C + b"Content-Length: %d\r\n" % len(inner), inner), request(LENGTH, b"after"))
    assert client.response().json["body"] == inner.decode()
    assert client.response().json["body"] == "after"
    assert server.served == ["POST /echo", "POST /echo"]


@pytest.mark.parametrize(
    "bad",
    [
        request(LENGTH + CHUNKED, b"0\r\n\r\n"),
        request(LENGTH + b"Content-Length: 6\r\n", b"hello!"),
        request(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        request(b"X: a\r\n b\r\n" + LENGTH, b"hello"),
        request(b"X: a\n" + LENGTH, b"hello"),
        request(b"Host: y\r\n" + LENGTH, b"hello"),
        request(CHUNKED, b"5\nhello\n0\n\n"),
        request(CHUNKED, b"z\r\n"),
        request(CHUNKED, b"5\r\nhelloXX0\r\n\r\n"),
        b"POST /echo HTTP/1.1\r\n" + LENGTH + b"\r\nhello",
        b"POST /echo HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
        request(line=b"CONNECT x:443 HTTP/1.1"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_400_and_closes(server: RawServer, client: RawClient, bad: bytes) -> None:
    client.send(request(LENGTH, b"first") + bad + request(LENGTH, b"after"))
    assert client.response().json["body"] == "first"
    response = client.response()
    assert response.status == 400
    assert response.headers["connection"] == "close"
    assert "not valid HTTP" in response.error["message"] or response.error["code"] == "invalid_input"
    assert client.closed()
    assert server.served == ["POST /echo"]


def test_pipelined_requests_are_answered_in_order(server: RawServer, client: RawClient) -> None:
    server.go.set()
    client.send(request(line=b"GET /hold HTTP/1.1") + request(LENGTH, b"hello") + request(CHUNKED, CHUNKS) * 20)
    assert client.response().json == {"held": True}
    assert [client.response().json["body"] for _ in range(21)] == ["hello"] * 21


def test_a_client_that_pipelines_without_end_is_not_read_without_end(server: RawServer, client: RawClient) -> None:
    client.send(request(line=b"GET /hold HTTP/1.1"))
    client.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):  # the kernel's buffers fill up, since the server has stopped reading
        client.send(request(LENGTH, b"hello") * 1_000_000)
    assert server.served == ["GET /hold"]


def test_expect_100_continue_is_answered_when_the_body_is_wanted(client: RawClient) -> None:
    client.send(request(LENGTH + b"Expect: 100-continue\r\n"))
    assert client.head()[0] == 100
    client.send(b"hello")
    assert client.response().json["body"] == "hello"


def test_expect_100_continue_that_is_refused_closes_since_the_body_may_not_come(
    server: RawServer, client: RawClient
) -> None:
    client.send(request(LENGTH + b"Expect: 100-continue\r\n", line=b"POST /deny HTTP/1.1"))
    response = client.response()
    assert (response.status, response.headers["connection"]) == (429, "close")
    client.send(request(LENGTH, b"after"))
    assert client.closed()
    assert server.served == ["POST /deny"]


def test_a_response_before_the_end_of_the_body_leaves_the_connection_usable(client: RawClient) -> None:
    size = MAX_UNREAD
    client.send(request(b"Content-Length: %d\r\n" % size, line=b"POST /deny HTTP/1.1"))
    assert client.response().status == 429
    client.send(b"x" * size, request(LENGTH, b"hello"))
    assert client.response().json["body"] == "hello"


def test_a_body_that_is_too_large_is_413_also_when_the_connection_then_closes(client: RawClient) -> None:
    size = 4 << 20
    client.send(request(b"Connection: close\r\nContent-Length: %d\r\n" % size), b"x" * size)
    response = client.response()
    assert response.status == 413
    assert response.error["code"] == "payload_too_large"


def test_http_1_0_gets_streams_that_end_with_the_connection(client: RawClient) -> None:
    client.send(b"GET /stream HTTP/1.0\r\n\r\n")
    response = client.response()
    assert "transfer-encoding" not in response.headers
    assert response.headers["connection"] == "close"
    assert response.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


def test_http_1_1_gets_streams_in_chunks(client: RawClient) -> None:
    for _ in range(2):
        client.send(request(line=b"GET /stream HTTP/1.1"))
        response = client.response()
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.body.endswith(b"data: [DONE]\n\n")


def test_http_1_0_with_a_body_is_read_and_answered_with_its_length(client: RawClient) -> None:
    client.send(b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\nhello")
    response = client.response()
    assert response.json["body"] == "hello"
    assert (response.headers["connection"], "content-length" in response.headers) == ("close", True)
    assert client.closed()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_response_that_breaks_off_does_not_look_complete(client: RawClient, version: bytes) -> None:
    client.send(request(line=b"GET /broken HTTP/" + version))
    with pytest.raises((ConnectionResetError, ValueError)):
        client.response()


def test_a_client_that_leaves_is_noticed(server: RawServer) -> None:
    with raw_client(server.url) as client:
        client.send(request(line=b"GET /hold HTTP/1.1"))
        wait_until_served(server)
    assert server.left.wait(10)


def test_a_slow_reader_gets_all_of_a_large_response(client: RawClient) -> None:
    client.send(request(line=b"GET /large HTTP/1.1"))
    _, headers, _ = client.head()
    left = int(headers["content-length"])
    while left:
        left -= len(client.read(min(left, 100_000)))
    client.send(request(LENGTH, b"hello"))
    assert client.response().json["body"] == "hello"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"y" * MAX_TARGET + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"y" * (1 << 20), 414, "uri_too_long"),
        (request(b"X: " + b"y" * MAX_LINE + b"\r\n"), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * (4 << 20), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x" + b"\r\nName: value" * 100_000, 431, "headers_too_large"),
    ],
)
def test_long_targets_and_headers_are_refused_in_words_and_not_by_a_reset(
    client: RawClient, sent: bytes, status: int, code: str
) -> None:
    client.send(sent)
    response = client.response()
    assert response.status == status
    assert response.error["code"] == code
    assert client.closed()


def test_an_idle_connection_is_closed_after_its_time_and_not_before(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        began = time.monotonic()
        client.send(request(LENGTH, b"hello"))
        assert client.response().status == 200
        assert client.closed()
        assert time.monotonic() - began >= 0.2
    with raw_client(hurried.url) as silent:
        assert silent.closed()


def test_a_head_that_takes_too_long_is_408(hurried: RawServer) -> None:
    with raw_client(hurried.url, timeout=0.05) as client:
        client.send(b"GET /echo HTTP/1.1\r\n")
        began = time.monotonic()
        while not client_has_news(client):
            client.send(b"X: y\r\n")  # each byte alone does not extend the time
        assert time.monotonic() - began >= 0.2
        assert client.response().status == 408


def client_has_news(client: RawClient) -> bool:
    try:
        return bool(client.socket.recv(1, 2))  # MSG_PEEK
    except TimeoutError:
        return False


def test_a_body_that_comes_too_slowly_is_408(hurried: RawServer) -> None:
    with raw_client(hurried.url, timeout=0.05) as client:
        client.send(request(b"Content-Length: 1000\r\n"))
        while not client_has_news(client):
            client.send(b"x")
        response = client.response()
        assert (response.status, response.error["code"]) == (408, "request_timeout")
        client.socket.settimeout(10)
        assert client.closed()
    assert hurried.served == []


def test_a_slow_body_that_nobody_reads_any_more_is_cut_off_too(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        client.send(request(b"Content-Length: 1000\r\n", line=b"POST /deny HTTP/1.1"))
        assert client.response().status == 429
        assert client.closed()


def test_a_long_answer_is_not_limited_by_the_times_of_requests(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        client.send(request(line=b"GET /hold HTTP/1.1"))
        threading.Timer(0.8, hurried.go.set).start()
        assert client.response().json == {"held": True}


def test_a_client_that_does_not_close_its_side_is_dropped(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.response().status == 400
        assert client.closed()
        deadline = time.monotonic() + 10
        while still_takes(client):
            assert time.monotonic() < deadline


def still_takes(client: RawClient) -> bool:
    try:
        client.send(b"x")
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def test_a_stop_does_not_wait_for_idle_connections(server: RawServer) -> None:
    with raw_client(server.url) as used, raw_client(server.url) as silent, raw_client(server.url) as partial:
        used.send(request(LENGTH, b"hello"))
        assert used.response().status == 200
        partial.send(b"POST /echo HT")
        began = time.monotonic()
        server.stop()
        for client in (used, silent, partial):
            assert client.closed()
        assert time.monotonic() - began < 2


def test_a_stop_lets_the_request_in_progress_finish_and_serves_none_after_it(server: RawServer) -> None:
    with raw_client(server.url) as client:
        client.send(request(line=b"GET /hold HTTP/1.1") + request(LENGTH, b"after"))
        wait_until_served(server)
        server.stop()
        threading.Timer(0.3, server.go.set).start()
        response = client.response()
        assert response.json == {"held": True}
        assert response.headers["connection"] == "close"
        assert client.closed()
    assert server.served == ["GET /hold"]
