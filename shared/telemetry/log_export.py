"""Warnings and errors as OTLP log records, so that they reach the monitor with their trace."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LoggerProvider, SeverityNumber
from opentelemetry.context import get_current

_OWN = ("opentelemetry", "llmos.telemetry")
"""Loggers of the export itself: to export their warnings would feed the fire."""
_CARRIED = frozenset({"event", "level", "logger", "timestamp", "trace_id", "span_id", "service", "instance"})
"""Fields that a log record has a place for already."""


class OtlpHandler(logging.Handler):
    """Hands records of WARNING and above to an OpenTelemetry logger provider; never blocks."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(level=logging.WARNING)
        self.set_name("llmos-otlp")
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        if record.name.startswith(_OWN):
            return
        event: Mapping[str, Any] = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        fields = {key: _primitive(value) for key, value in event.items() if key not in _CARRIED and key != "exc_info"}
        error = _error_of(record, event)
        self._provider.get_logger(record.name).emit(
            timestamp=int(record.created * 1e9),
            context=get_current(),
            severity_number=_severity(record.levelno),
            severity_text=record.levelname,
            body=str(event.get("event", "")),
            attributes=fields,
            exception=error,
        )


def _severity(level: int) -> SeverityNumber:
    if level >= logging.CRITICAL:
        return SeverityNumber.FATAL
    return SeverityNumber.ERROR if level >= logging.ERROR else SeverityNumber.WARN


def _primitive(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _error_of(record: logging.LogRecord, event: Mapping[str, Any]) -> BaseException | None:
    told = event.get("exc_info", record.exc_info)
    if told is True:
        return sys.exc_info()[1]
    if isinstance(told, BaseException):
        return told
    if isinstance(told, tuple) and isinstance(told[1], BaseException):
        return told[1]
    return None
