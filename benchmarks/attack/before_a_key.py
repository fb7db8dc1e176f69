"""What a stranger can send: heads without an end, connections that do nothing, forged traces."""

import contextlib
import secrets
import socket
import time

from benchmarks.attack.target import Outcome, Target

HALF_OPEN = 1500
PIPELINED = 50
"""Requests that are sent at once; the gateway takes 64."""
WAIT_S = 30.0
"""How long a connection that does nothing may live at most, before an attack counts as not answered."""


def endless_head(target: Target) -> Outcome:
    """A header line of 100 MB."""
    with target.connection() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        return _flood(connection, b"x" * (1 << 20), 100)


def endless_url(target: Target) -> Outcome:
    """A URL of 100 MB."""
    with target.connection() as connection:
        connection.sendall(b"GET /")
        return _flood(connection, b"x" * (1 << 20), 100)


def many_headers(target: Target) -> Outcome:
    """A million header lines."""
    with target.connection() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        return _flood(connection, b"X-A: b\r\n" * 20_000, 50)


def half_open(target: Target) -> Outcome:
    """1,500 connections that send half a head and then nothing."""
    held = []
    refused = 0
    for _ in range(HALF_OPEN):
        try:
            connection = target.connection()
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            held.append(connection)
        except OSError:
            refused += 1
    deadline = time.monotonic() + WAIT_S
    alive = held
    while alive and time.monotonic() < deadline:
        alive = [connection for connection in alive if not _closed(connection)]
        time.sleep(0.5)
    for connection in held:
        connection.close()
    return Outcome(f"{refused} refused, {len(held) - len(alive)} closed, {len(alive)} still open", not alive)


def slow_body(target: Target) -> Outcome:
    """A body that stops half-way, with a key."""
    with target.connection() as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {target.attacker}\r\nContent-Length: 100000\r\n\r\n".encode()
            + b'{"model": "'
        )
        return _answer(connection)


def forged_trace(target: Target) -> Outcome:
    """A stranger's request with a trace id of its own choice: nothing may be written under that id."""
    trace = secrets.token_hex(16)
    with target.connection() as connection:
        head = f"GET /v1/models HTTP/1.1\r\nHost: x\r\ntraceparent: 00-{trace}-{secrets.token_hex(8)}-01\r\n\r\n"
        connection.sendall(head.encode())
        text = connection.recv(65536).decode(errors="replace")
    forged = f"x-trace-id: {trace}" in text.lower()
    return Outcome(
        f"{_status(text)}; the trace has {'the id that was sent' if forged else 'an id of its own'}", not forged
    )


def trace_flood(target: Target) -> Outcome:
    """20,000 requests without a key: a tenant's trace is still there afterwards."""
    mine = target.chat("Remember me.", key=target.quiet).headers["x-trace-id"]
    _until(lambda: _has_trace(target, mine))
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    answered = 0
    with target.connection() as connection:
        for _ in range(400):
            connection.sendall(request * PIPELINED)
            seen = 0
            while seen < PIPELINED and (piece := connection.recv(1 << 16)):
                seen += piece.count(b"HTTP/1.1 ")
            answered += seen
    time.sleep(2.0)
    there = _has_trace(target, mine)
    return Outcome(f"{answered:,} refusals; the tenant's trace is {'there' if there else 'gone'}", there)


def _has_trace(target: Target, trace: str) -> bool:
    try:
        return bool(target.admin.trace(trace))
    except Exception:  # noqa: BLE001  # not there, or not yet
        return False


def _until(condition: object, seconds: float = 10.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _flood(connection: socket.socket, piece: bytes, times: int) -> Outcome:
    sent = 0
    try:
        for _ in range(times):
            connection.sendall(piece)
            sent += len(piece)
    except OSError:
        pass
    outcome = _answer(connection)
    return Outcome(f"{outcome.answer} (after {sent / 1e6:.0f} MB)", outcome.held)


def _answer(connection: socket.socket) -> Outcome:
    """A refusal, and the end of the connection."""
    connection.settimeout(WAIT_S)
    received = b""
    closed = False
    with contextlib.suppress(OSError):
        while piece := connection.recv(65536):
            received += piece
        closed = True
    text = received.decode(errors="replace")
    reset = not received
    status = "connection reset" if reset else _status(text)
    return Outcome(f"{status}, {'closed' if closed or reset else 'open'}", closed or reset)


def _status(text: str) -> str:
    return " ".join(text.split("\r\n", 1)[0].split()[1:]) or "no answer"


def _closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


ATTACKS = (endless_head, endless_url, many_headers, half_open, slow_body, forged_trace, trace_flood)
