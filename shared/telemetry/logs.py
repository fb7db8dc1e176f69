"""Structured logs: one JSON object a line in containers and files, readable lines on a terminal.

`structlog` and the standard library's `logging` end in the same handler, so every line of every library has the same
fields: timestamp, level, logger, event, service, instance, and trace_id/span_id where a span is current.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

_QUIET = ("asyncio", "httpx", "httpcore", "urllib3", "grpc")
"""Libraries whose debug and info lines are of no use to an operator."""
_SEVERAL_LINES = ("exception", "stack")
"""Fields that are made here, and have line breaks."""


def configure_logs(
    format: Literal["json", "console"],  # noqa: A002  # the setting's name
    level: str,
    *,
    service: str = "",
    instance: str = "",
    warnings_only: Callable[[], bool] = lambda: False,
) -> None:
    """Send all logs to stderr. May be called again; the last call counts.

    Args:
        format: `json` or `console`.
        level: The lowest level shown: debug, info, warning or error.
        service: Stands on each line, if given; so does `instance`.
        instance: This process among its kind.
        warnings_only: Whether lines below warnings are dropped now, because the disk has little room.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Identity(service, instance),
        add_trace,
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name("llmos")
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not warnings_only())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(format)],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if each.get_name() == "llmos"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put the current span's ids on the line, as 32 and 16 hexadecimal digits."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


class _Identity:
    """Puts the process's name on each line."""

    def __init__(self, service: str, instance: str) -> None:
        self._fields = {key: value for key, value in (("service", service), ("instance", instance)) if value}

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for key, value in self._fields.items():
            event.setdefault(key, value)
        return event


def _renderers(format: str) -> list[Processor]:  # noqa: A002  # the setting's name
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=_plain)]
    colours = sys.stderr.isatty()
    return [
        _drop_on_terminals,
        _escape_controls,
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
    ]


def _drop_on_terminals(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A terminal shows one process: its name, and the span's own id, are noise there."""
    for key in ("service", "span_id"):
        event.pop(key, None)
    return event


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What a client sent must neither begin a line of its own, which could say anything, nor steer the terminal."""
    for key, value in event.items():
        if key not in _SEVERAL_LINES and isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _plain(value: Any) -> str:
    return str(value)
