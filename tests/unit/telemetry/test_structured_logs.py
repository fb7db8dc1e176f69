import json
import logging
import sys

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from shared.telemetry.logs import configure_logs


@pytest.fixture(autouse=True)
def restored():
    """Logging is global: leave it as it was found."""
    root = logging.getLogger()
    handlers, level, structure = list(root.handlers), root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**structure)


@pytest.fixture
def tracer():
    return TracerProvider(shutdown_on_exit=False).get_tracer("llmos.test")


@pytest.fixture
def lines(capsys):
    def read():
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    return read


def test_a_json_line_has_the_event_its_fields_and_who_wrote_it(lines):
    configure_logs("json", "info", service="gateway", instance="gateway-1")
    structlog.get_logger("llmos.test").info("request done", tokens=8, path=sys.executable)
    [line] = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request done",
        "level": "info",
        "logger": "llmos.test",
        "service": "gateway",
        "instance": "gateway-1",
        "tokens": 8,
        "path": sys.executable,
    }


def test_a_line_within_a_span_has_its_ids(lines, tracer):
    configure_logs("json", "info")
    with tracer.start_as_current_span("work") as span:
        structlog.get_logger("llmos.test").info("inside")
        logging.getLogger("library").warning("inside too")
    structlog.get_logger("llmos.test").info("outside")
    context = span.get_span_context()
    inside, too, outside = lines()
    assert inside["trace_id"] == too["trace_id"] == format_trace_id(context.trace_id)
    assert inside["span_id"] == too["span_id"] == format_span_id(context.span_id)
    assert "trace_id" not in outside


def test_the_standard_library_s_logging_looks_the_same(lines):
    configure_logs("json", "info", service="monitor")
    logging.getLogger("library").warning("%d of %d", 1, 2, extra={"key": "value"})
    [line] = lines()
    assert (line["event"], line["level"], line["logger"], line["service"], line["key"]) == (
        *("1 of 2", "warning", "library", "monitor"),
        "value",
    )


def test_what_is_below_the_level_is_not_written(lines):
    configure_logs("json", "warning")
    structlog.get_logger("llmos.test").info("hidden")
    logging.getLogger("library").info("hidden")
    structlog.get_logger("llmos.test").warning("shown")
    assert [line["event"] for line in lines()] == ["shown"]


def test_configuring_again_does_not_double_the_lines(lines):
    configure_logs("json", "info")
    configure_logs("json", "info", service="second")
    structlog.get_logger("llmos.test").info("once")
    assert [line["service"] for line in lines()] == ["second"]


def test_an_exception_is_one_json_line_with_the_traceback_in_a_field(lines):
    configure_logs("json", "info")
    try:
        {}["missing"]
    except KeyError:
        structlog.get_logger("llmos.test").exception("it broke", odd=object)
    [line] = lines()
    assert "KeyError: 'missing'" in line["exception"]
    assert line["odd"] == "<class 'object'>"


def test_a_terminal_gets_readable_lines(capsys, tracer):
    configure_logs("console", "info", service="gateway", instance="gateway-1")
    with tracer.start_as_current_span("work") as span:
        structlog.get_logger("llmos.test").info("request done", tokens=8)
    text = capsys.readouterr().err
    assert "request done" in text
    assert "tokens=8" in text
    assert format_trace_id(span.get_span_context().trace_id) in text


@pytest.mark.parametrize("path", ["/\n2026-11-30 [info] key.created key=forged", "/\x1b[2J", "/\u2028forged"])
def test_what_a_client_sent_neither_begins_a_line_nor_steers_a_terminal(capsys, path):
    configure_logs("console", "info")
    structlog.get_logger("llmos.test").info("request.ended", path=path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()


def test_an_exception_on_a_terminal_keeps_its_lines(capsys):
    configure_logs("console", "info")
    try:
        _ = {}["the reason"]
    except KeyError:
        structlog.get_logger("llmos.test").exception("it.failed")
    assert len(capsys.readouterr().err.splitlines()) > 3
