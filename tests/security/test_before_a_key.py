"""What a stranger without a key can do to the gateway's server by bytes, slowness and numbers alone."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from services.gateway.http.http1.connection import MAX_PIPELINED, MAX_UNREAD
from services.gateway.http.http1.parser import MAX_HEAD, MAX_LINE, MAX_LINES
from services.gateway.http.http1.slices import HEAD_SLICE
from services.gateway.limits.networks import LOOPBACK, NOWHERE
from services.gateway.limits.places import Places
from services.gateway.limits.time_limits import TimeLimits
from tests.support.harness.lag import LagProbe, assert_turns
from tests.support.harness.raw_http import RawClient, raw_client
from tests.support.harness.raw_server import RawServer, serving_raw

HURRIED = TimeLimits(keep_alive=0.3, head=0.3, body_window=0.3, send_window=0.3, linger=0.3)
GET = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[RawServer]:
    with serving_raw(TimeLimits(), request.param) as started:
        yield started


@pytest.fixture
def hurried() -> Iterator[RawServer]:
    with serving_raw(HURRIED) as started:
        yield started


def send_all(client: RawClient, part: bytes, size: int) -> int:
    """Send `part` again and again, until `size` bytes are sent or the server takes no more; returns how many."""
    sent, block = 0, part * max(1, (1 << 18) // len(part))
    client.socket.settimeout(2)
    try:
        while sent < size:
            sent += client.socket.send(block)
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass
    return sent


def ends(client: RawClient) -> bool:
    """Whether the server closes, whatever it sends before."""
    client.socket.settimeout(10)
    try:
        while client.socket.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


ATTEMPTS, MOST_LAG_S = 4, 0.05
FLOODS = {
    "a path without end": (b"GET /", b"y"),
    "a header's value without end": (b"GET / HTTP/1.1\r\nX: ", b"y"),
    "a header's name without end": (b"GET / HTTP/1.1\r\nX", b"y"),
    "headers without end": (b"GET / HTTP/1.1\r\nHost: x", b"\r\na:"),
    "empty lines": (b"", b"\r\n"),
    "a chunk's extension without end": (
        b"POST /deny HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"y",
    ),
    "trailers without end": (b"POST /deny HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a:\r\n"),
    "chunks of one byte": (b"POST /deny HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
    "a body without end": (b"POST /deny HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n", b"y"),
    "requests that wait for the first": (
        b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    ),
}


def flood_with(client: RawClient, flood: str) -> None:
    first, part = FLOODS[flood]
    client.send(first)
    send_all(client, part, 100 << 20)


@pytest.mark.parametrize("flood", FLOODS)
def test_100_mb_of_one_kind_are_neither_kept_nor_does_another_client_wait_for_them(
    server: RawServer, flood: str
) -> None:
    probes = []
    for _ in range(ATTEMPTS):
        with LagProbe(server.loop) as probe, raw_client(server.url) as client:
            memory = probe.resident_mb()
            flood_with(client, flood)
            with raw_client(server.url) as other:
                other.send(GET)
                assert other.response().status == 200
            assert probe.resident_mb() - memory < 20
        probes.append(probe)
        if probe.excess < MOST_LAG_S:
            break
    assert_turns(probes, MOST_LAG_S)
    server.go.set()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"y" * MAX_LINE + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (MAX_LINE + HEAD_SLICE) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (MAX_LINES + 1), 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"y" * (MAX_HEAD // 5) + b"\r\n") * 6, 431),
    ],
    ids=["path", "line", "lines", "head"],
)
def test_a_head_that_is_too_large_is_refused_before_its_end_and_the_connection_closes(
    server: RawServer, sent: bytes, status: int
) -> None:
    with raw_client(server.url) as client:
        client.send(sent)
        assert client.response().status == status
        assert client.closed()


def test_half_a_head_a_body_that_rests_and_silence_live_for_their_time_only(hurried: RawServer) -> None:
    beginnings = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        b"POST /deny HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
        GET,
        GET + b"GET / HT",
        b"\r\n",
    ]
    clients = [raw_client(hurried.url) for _ in beginnings for _ in range(5)]
    opened = [client.__enter__() for client in clients]
    try:
        for client, beginning in zip(opened, beginnings * 5, strict=True):
            client.send(beginning)
        assert all(ends(client) for client in opened)
        wait_until(lambda: not hurried.places.open)
    finally:
        for client in clients:
            client.__exit__(None, None, None)


def test_a_client_that_does_not_read_its_response_is_dropped(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: hurried.places.gave_up == 1)
        wait_until(lambda: not hurried.places.open)


def test_a_client_that_reads_slowly_but_reads_gets_its_response(hurried: RawServer) -> None:
    with raw_client(hurried.url) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        _, headers, _ = client.head()
        left, began = int(headers["content-length"]), time.monotonic()
        while left:
            left -= len(client.read(min(left, 200_000)))
            threading.Event().wait(0.03)
        assert time.monotonic() - began > 3 * HURRIED.send_window
    assert hurried.places.gave_up == 0


def test_a_body_that_nobody_reads_ends_the_connection_and_the_response_is_still_read(server: RawServer) -> None:
    with raw_client(server.url) as client:
        size = MAX_UNREAD + (1 << 20)
        client.send(b"POST /deny HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size, b"y" * size)
        assert client.response().status == 429
        assert client.closed()


def test_more_requests_than_may_wait_are_refused_in_their_turn(server: RawServer) -> None:
    server.go.set()
    with raw_client(server.url) as client:
        client.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n" + GET * (2 * MAX_PIPELINED))
        statuses = [client.response().status for _ in range(MAX_PIPELINED + 2)]
        assert statuses == [200] * (MAX_PIPELINED + 1) + [400]
        assert client.closed()


def test_connections_are_bounded_and_the_one_that_was_idle_for_longest_makes_place() -> None:
    hold = b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        server = stack.enter_context(serving_raw(TimeLimits(), places=Places(3, 100, LOOPBACK)))
        oldest, held, newer = (stack.enter_context(raw_client(server.url)) for _ in range(3))
        for client in (oldest, newer):
            client.send(GET)
            assert client.response().status == 200
        held.send(hold)
        wait_until(lambda: len(server.served) == 1)
        following = stack.enter_context(raw_client(server.url))
        following.send(GET)
        assert following.response().status == 200
        assert oldest.closed()
        newer.send(hold)
        following.send(hold)
        wait_until(lambda: len(server.served) == 3)
        late = stack.enter_context(raw_client(server.url))
        response = late.response()
        assert response.status == 503
        assert "LLMOS_GATEWAY_MAX_CONNECTIONS" in response.json["error"]["message"]
        assert late.closed()
        assert server.places.refused["unavailable"] == 1
        server.go.set()
        assert held.response().status == 200


def test_one_address_cannot_take_all_places_and_gives_its_own_back() -> None:
    with serving_raw(TimeLimits(linger=0.2), places=Places(100, 2, NOWHERE)) as server:
        with raw_client(server.url) as first, raw_client(server.url) as second:
            for client in (first, second):
                client.send(GET)
                assert client.response().status == 200
            with raw_client(server.url) as third:
                response = third.response()
                assert (response.status, response.json["error"]["code"]) == (429, "overloaded")
                assert third.closed()
        wait_until(lambda: server.places.open == 0)
        with raw_client(server.url) as again:
            again.send(GET)
            assert again.response().status == 200


def test_a_flood_of_connections_leaves_none_behind_and_no_line_for_each() -> None:
    places = Places(50, 50, LOOPBACK)
    with serving_raw(TimeLimits(linger=0.2), places=places) as server:
        with raw_client(server.url) as busy:
            busy.send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: bool(server.served))
            for _ in range(500):
                with raw_client(server.url) as client:
                    client.send(b"GET")
            server.go.set()
            assert busy.response().status == 200
        wait_until(lambda: places.open == 0 and places.lingering == 0)


def wait_until(condition: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
