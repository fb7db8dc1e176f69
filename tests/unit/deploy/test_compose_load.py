"""The load under which containers are killed: what counts as answered, asked again and failed."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.compose_test.load import STREAMS, Load
from deploy.compose_test.report import Report, eventually, expect


class Gateway(BaseHTTPRequestHandler):
    """Streams two pieces; `fault` is what goes wrong with each request after those of the quiet system."""

    fault = ""
    asked = 0
    protocol_version = "HTTP/1.0"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        cls = type(self)
        cls.asked += 1
        fault = cls.fault if cls.asked > STREAMS else ""
        if fault == "status":
            self.send_error(503)
            return
        if fault == "refused":
            self.send_error(400)
            return
        self.send_response(200)
        self.end_headers()
        self._piece({"content": "once "})
        if fault == "cut":
            return
        if fault == "error":
            self.wfile.write(b'data: {"error": {"message": "lost"}}\n\n')
            return
        self._piece({"content": "upon" if fault != "text" else "more"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _piece(self, delta):
        self.wfile.write(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n".encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def gateways() -> Iterator[tuple[type[Gateway], type[Gateway], Load]]:
    kinds = type("First", (Gateway,), {}), type("Second", (Gateway,), {})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    load = Load([f"http://127.0.0.1:{server.server_port}" for server in servers], "key")
    load.learn()
    kinds[1].asked = STREAMS
    try:
        yield *kinds, load
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def run(load: Load, enough) -> None:
    with load.running():
        eventually(enough, 60, "enough was answered")


def test_both_gateways_answer(gateways):
    *_, load = gateways
    run(load, lambda: len(load.by_gateway) == 2 and load.answers > STREAMS)
    assert load.failures == []
    assert load.summary().endswith("0 failed, asked again: none")


@pytest.mark.parametrize(("fault", "why"), [("cut", "after a cut stream"), ("status", "after status 503")])
def test_a_client_asks_the_other_gateway_again_and_that_is_counted(gateways, fault, why):
    first, _, load = gateways
    first.fault = fault
    run(load, lambda: load.again[why] > 2 and load.answers > 2)
    assert load.failures == []
    assert set(load.again) == {why}
    assert why in load.summary()


@pytest.mark.parametrize(
    ("fault", "said"),
    [("text", "another text than before"), ("error", "an error in the stream"), ("refused", "status 400")],
)
def test_a_wrong_answer_is_a_failed_request(gateways, fault, said):
    first, _, load = gateways
    first.fault = fault
    run(load, lambda: bool(load.failures))
    assert all(said in failure for failure in load.failures)


def test_a_check_that_fails_is_a_line_and_keeps_no_other_from_being_made(capsys):
    report = Report()
    assert not report.check("first", lambda: expect(bool(report.failed), "two is more") or "")
    assert not report.check("second", lambda: json.loads("no JSON"))
    assert report.check("third", lambda: "as it should be")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["FAILED", "FAILED", "ok"]
    assert lines[0].endswith("first: AssertionError: two is more")
    assert (report.failed, report.passed) == (["first", "second"], 1)


def test_waiting_ends():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="not within 0 s: never"):
        eventually(lambda: False, 0.1, "never")
    assert time.monotonic() - began < 30
