"""What requests are read from bytes, and which bytes are refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.http.errors import HeadersTooLarge, UriTooLong
from services.gateway.http.http1.parser import (
    END,
    FREE_CHUNKS,
    MAX_HEAD,
    MAX_LINE,
    MAX_LINES,
    MAX_TARGET,
    Event,
    Head,
    RequestParser,
)
from shared.errors import InvalidInput, LlmosError

OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n",
    b"Upgrade: TLS/1.0, anything/2\r\nConnection: keep-alive, upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"",
]
BODIES = [
    (b"Content-Length: 5\r\n", b"hello"),
    (b"Content-Length: 0\r\n", b""),
    (b"", b""),
    (b"Transfer-Encoding: chunked\r\n", b"3\r\nhel\r\n2;name=value;other\r\nlo\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: Chunked\r\n", b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\nAuthorization: x\r\n\r\n"),
]


def request(headers: bytes = b"", body: bytes = b"", line: bytes = b"POST /a?b=c HTTP/1.1") -> bytes:
    return line + b"\r\nHost: x\r\n" + headers + b"\r\n" + body


def parse(data: bytes, cuts: tuple[int, ...] = ()) -> list[Event]:
    parser, events = RequestParser(), []
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in pairwise(edges):
        events += parser.feed(data[start:end])
    return events


def requests(events: list[Event]) -> list[tuple[str, bytes, bool]]:
    """Path, body and whether it is whole, of each request."""
    found: list[tuple[str, bytes, bool]] = []
    for event in events:
        if isinstance(event, Head):
            found.append((event.path, b"", False))
        elif isinstance(event, bytes):
            path, body, _ = found.pop()
            found.append((path, body + event, False))
        elif event is END:
            path, body, _ = found.pop()
            found.append((path, body, True))
    return found


def refusal(events: list[Event]) -> LlmosError:
    assert isinstance(events[-1], LlmosError), events
    return events[-1]


@given(
    st.lists(st.tuples(st.sampled_from(OFFERS), st.sampled_from(BODIES)), min_size=1, max_size=4),
    st.lists(st.integers(min_value=0), max_size=12).map(tuple),
)
def test_bodies_are_read_whatever_upgrade_is_offered_and_wherever_the_bytes_are_cut(
    sent: list[tuple[bytes, tuple[bytes, bytes]]], cuts: tuple[int, ...]
) -> None:
    data = b"".join(request(offer + framing, body) for offer, (framing, body) in sent)
    read = requests(parse(data, cuts))
    assert read == [("/a", b"hello" if body else b"", True) for _, (_, body) in sent]


def test_byte_by_byte_is_as_good_as_at_once() -> None:
    data = request(OFFERS[0] + BODIES[3][0], BODIES[3][1]) * 2
    assert requests(parse(data, tuple(range(len(data))))) == [("/a", b"hello", True)] * 2


def test_a_smuggled_request_in_the_body_of_an_upgrade_stays_a_body() -> None:
    inner = request(line=b"GET /admin HTTP/1.1")
    sent = request(OFFERS[0] + b"Content-Length: %d\r\n" % len(inner), inner)
    assert requests(parse(sent)) == [("/a", inner, True)]


def test_trailers_are_not_headers() -> None:
    head = parse(request(*BODIES[4]))[0]
    assert isinstance(head, Head)
    assert [name for name, _ in head.headers] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("offer", [OFFERS[0], b""])
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nX"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
        (b"Content-Length: 5, 5\r\n", b"hello"),
        (b"Content-Length: +5\r\n", b"hello"),
        (b"Content-Length: -5\r\n", b"hello"),
        (b"Content-Length: 0x5\r\n", b"hello"),
        (b"Content-Length:\r\n", b"hello"),
        (b"Content-Length: 99999999999999999999\r\n", b"hello"),
        (b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: identity\r\n", b""),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        (b"Content-Length : 5\r\n", b"hello"),
        (b"X: a\r\n folded\r\nContent-Length: 0\r\n", b""),
        (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
        (b"X: a\nContent-Length: 5\r\n", b"hello"),
        (b"X: a\rContent-Length: 5\r\n", b"hello"),
        (b"X: a\x00b\r\n", b""),
        (b"Host: y\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", b"5\nhello\n0\n\n"),
        (b"Transfer-Encoding: chunked\r\n", b"5 \r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"-5\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"5\r\nhelloXX0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"0\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_ambiguous_framing_is_refused_and_nothing_after_it_is_read(offer: bytes, headers: bytes, body: bytes) -> None:
    events = parse(request(offer + headers, body) + request(line=b"GET /next HTTP/1.1"))
    assert isinstance(refusal(events), InvalidInput)
    assert not any(whole for _, _, whole in requests(events))
    assert [path for path, _, _ in requests(events)] in ([], ["/a"])


@pytest.mark.parametrize(
    "data",
    [
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: x\n\n",
        b"GET /a\r\n\r\n",
        b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"NONSENSE /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n",
        b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GET /é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    ],
)
def test_what_is_no_request_of_http_1_is_refused_in_words(data: bytes) -> None:
    error = refusal(parse(data))
    assert isinstance(error, InvalidInput)
    assert "went wrong" not in error.message


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        (b"GET /a%20b?c=%20 HTTP/1.1", "/a b", b"c=%20"),
        (b"GET //x/y HTTP/1.1", "//x/y", b""),
        (b"GET http://host:80/a?b HTTP/1.1", "/a", b"b"),
        (b"GET http://host HTTP/1.1", "/", b""),
        (b"OPTIONS * HTTP/1.1", "*", b""),
    ],
)
def test_all_forms_of_targets_are_read(line: bytes, path: str, query: bytes) -> None:
    head = parse(request(line=line))[0]
    assert isinstance(head, Head)
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("line", "headers", "keep_alive"),
    [
        (b"GET /a HTTP/1.1", b"", True),
        (b"GET /a HTTP/1.1", b"Connection: close\r\n", False),
        (b"GET /a HTTP/1.1", b"Connection: Keep-Alive, Close\r\n", False),
        (b"GET /a HTTP/1.1", b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n", False),
        (b"GET /a HTTP/1.0", b"", False),
        (b"GET /a HTTP/1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_nothing_is_read_after_the_last_request(line: bytes, headers: bytes, keep_alive: bool) -> None:
    events = parse(request(headers, line=line) + request(line=b"GET /next HTTP/1.1"))
    assert [path for path, _, _ in requests(events)] == (["/a", "/next"] if keep_alive else ["/a"])
    assert not isinstance(events[-1], LlmosError)


def endless(first: bytes, part: bytes) -> LlmosError:
    """What is refused when `part` comes again and again."""
    parser = RequestParser()
    parser.feed(first)
    for _ in range(4 * MAX_HEAD // len(part)):
        if events := [event for event in parser.feed(part) if isinstance(event, LlmosError)]:
            return events[0]
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(
    ("first", "part"),
    [
        (b"GET /a HTTP/1.1\r\nX: ", b"y" * 1000),
        (b"GET /a HTTP/1.1\r\nX", b"y" * 1000),
        (b"GET /a HTTP/1.1\r\nHost: x", b"\r\nName: value" * 50),
        (request(b"Transfer-Encoding: chunked\r\n", b"0\r\nX: "), b"y" * 1000),
        (request(b"Transfer-Encoding: chunked\r\n", b"0"), b"\r\nName: value" * 50),
        (request(b"Transfer-Encoding: chunked\r\n", b"5;x="), b"y" * 1000),
        (b"", b"\r\n" * 500),
    ],
)
def test_what_never_ends_is_refused_before_it_fills_the_memory(first: bytes, part: bytes) -> None:
    assert isinstance(endless(first, part), HeadersTooLarge)


def test_a_target_that_is_too_long_is_named_as_such() -> None:
    assert isinstance(endless(b"GET /", b"y" * 1000), UriTooLong)
    assert isinstance(refusal(parse(b"GET /" + b"y" * MAX_TARGET + b" HTTP/1.1\r\nHost: x\r\n\r\n")), UriTooLong)
    assert requests(parse(request(line=b"GET /" + b"y" * (MAX_TARGET - 1) + b" HTTP/1.1")))[0][2]


def test_headers_just_below_the_limits_are_read() -> None:
    line = b"X: " + b"y" * (MAX_LINE - 3) + b"\r\n"
    assert requests(parse(request(line * 3)))[0][2]
    assert isinstance(refusal(parse(request(line * 5))), HeadersTooLarge)
    assert isinstance(refusal(parse(request(b"X: " + b"y" * MAX_LINE + b"\r\n"))), HeadersTooLarge)
    assert requests(parse(request(b"X: y\r\n" * (MAX_LINES - 1))))[0][2]
    assert isinstance(refusal(parse(request(b"X: y\r\n" * MAX_LINES))), HeadersTooLarge)


def test_a_body_of_many_small_chunks_is_refused_and_one_of_usual_chunks_is_read() -> None:
    head = b"Transfer-Encoding: chunked\r\n"
    assert isinstance(refusal(parse(request(head, b"1\r\nx\r\n" * 10_000))), InvalidInput)
    assert requests(parse(request(head, b"1\r\nx\r\n" * FREE_CHUNKS + b"0\r\n\r\n")))[0][2]
    assert requests(parse(request(head, (b"50\r\n" + b"x" * 80 + b"\r\n") * 10_000 + b"0\r\n\r\n")))[0][2]
