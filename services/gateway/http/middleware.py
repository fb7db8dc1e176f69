"""The outermost layer of every request: its ids, root span, metrics and log line, and its errors as JSON."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.auth import OPEN_PATHS
from services.gateway.http import errors
from services.gateway.http.dialect import OPENAI, Dialect, send_error
from services.gateway.http.paths import routed_path
from services.gateway.limits.allowance import Allowance
from services.gateway.metrics import Ended, Metrics
from shared.errors import LlmosError
from shared.panics import STOPS
from shared.telemetry import genai

_log = structlog.get_logger("llmos.gateway")
tracer = trace.get_tracer("llmos.gateway")

MAX_TEXT = 256
"""Characters of what a client sent that are kept in a trace or in the log: a path, an agent, what was wrong."""

STATE = "llmos.request"
"""The scope's key for the `RequestState`."""

_PROPAGATOR = TraceContextTextMapPropagator()
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")


@dataclass(slots=True)
class RequestState:
    """What the layers of one request share."""

    request_id: str
    trace_id: str
    status: int = 0
    """Sent to the client; 0 before."""
    failure: LlmosError | None = None
    """The error that ended the response, also after its first byte."""
    key_id: str = ""
    model: str = ""
    """That the request names, whether it is deployed or not."""
    dialect: Dialect = OPENAI
    """Of the route; OpenAI's until it is found."""


def state_of(scope: Scope) -> RequestState:
    """The state of the request that `scope` belongs to."""
    state: RequestState = scope[STATE]
    return state


class RequestMiddleware:
    """Wraps the application: turns every error that it raises into a response.

    Anyone can have requests refused, so refusals are all counted, but traced and logged as `Allowance` has it: else
    a stranger's would push those of tenants out of the stores.

    Args:
        app: The application.
        metrics: Counts every request.
        trust_trace_context: Whether a client's `traceparent` is continued. Otherwise the trace is the gateway's own,
            with a link to the client's: whoever knows a trace id could write into that trace, or hide a request by
            the flag that it is not sampled.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, trust_trace_context: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._trust_trace_context = trust_trace_context
        self._refusals = Allowance()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        scope["path"] = routed_path(scope)
        began = time.perf_counter()
        self._metrics.began()
        span = self._span(scope, headers)
        state = RequestState(
            request_id=request_id(headers),
            trace_id=trace.format_trace_id(span.get_span_context().trace_id),
        )
        scope[STATE] = state
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            try:
                await self._respond(scope, receive, send, state)
            finally:
                seconds = time.perf_counter() - began
                self._conclude(scope, span, state, seconds)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, state: RequestState) -> None:
        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.status = message["status"]
                ids = [
                    (b"x-request-id", state.request_id.encode()),
                    (b"x-trace-id", state.trace_id.encode()),
                ]
                if state.dialect.request_id is not None:
                    ids.append((state.dialect.request_id, state.request_id.encode()))
                message = {**message, "headers": [*message.get("headers", ()), *ids]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_ids)
        except errors.ClientGone:
            state.status = errors.CLIENT_GONE
        except STOPS:
            raise
        except BaseException as error:  # noqa: BLE001  # the boundary: every error becomes a response, unknown ones are logged
            state.failure = errors.as_llmos(error, scope["method"], scope["path"])
            if not state.status:
                await send_error(send_with_ids, state.failure, method=scope["method"], dialect=state.dialect)

    def _conclude(self, scope: Scope, span: trace.Span, state: RequestState, seconds: float) -> None:
        method, route = scope["method"], getattr(scope.get("route"), "path", "unmatched")
        status = errors.status(state.failure) if state.failure else state.status or errors.CLIENT_GONE
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute(genai.HTTP_STATUS, state.status or status)
        describe_end(span, status, key_id=state.key_id, model=state.model, failure=state.failure)
        code = None if state.failure is None else state.failure.code
        ended = Ended(method, route, status, seconds, state.model, code, state.key_id)
        self._metrics.ended(ended)
        passed_over: int | None = 0
        if 400 <= status < 500 and not state.key_id:
            passed_over = self._refusals.take(time.monotonic())
        if passed_over is None:
            return  # a span that does not end is not exported
        span.end()
        fields: dict[str, object] = {
            "method": method,
            "path": scope["path"][:MAX_TEXT],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_id": state.request_id,
        }
        if state.key_id:
            fields["key"] = state.key_id
        if state.failure is not None:
            fields |= {"code": state.failure.code, "problem": state.failure.message[:MAX_TEXT]}
        if passed_over:
            fields["refusals_before"] = passed_over
        notable = is_traced(method, scope["path"]) or (status >= 400 and scope["path"] not in OPEN_PATHS)
        write = _log.info if notable else _log.debug
        write("request.ended", **fields)

    def _span(self, scope: Scope, headers: Mapping[str, str]) -> trace.Span:
        """The root span; requests that only read (health, metrics, lists) get ids without a trace."""
        method, path = scope["method"], scope["path"]
        if not is_traced(method, path):
            return unrecorded()
        client = scope.get("client")
        attributes = {
            "http.request.method": method,
            "url.path": path[:MAX_TEXT],
            "url.scheme": scope.get("scheme", "http"),
            "client.address": client[0] if client else "",
            "user_agent.original": headers.get("user-agent", "")[:MAX_TEXT],
        }
        theirs = _PROPAGATOR.extract(headers, Context())
        their_span = trace.get_current_span(theirs).get_span_context()
        links = [trace.Link(their_span)] if their_span.is_valid and not self._trust_trace_context else []
        span = tracer.start_span(
            f"{method} {path[:MAX_TEXT]}",
            theirs if self._trust_trace_context else Context(),
            kind=SpanKind.SERVER,
            attributes=attributes,
            links=links,
        )
        return span if span.get_span_context().is_valid else unrecorded()


def describe_end(
    span: trace.Span, status: int, *, key_id: str | None, model: str | None, failure: LlmosError | None
) -> None:
    """Say in a request's span for whom it was, which model it named, and what went wrong.

    Args:
        span: Of the request.
        status: Of HTTP; from 500 the span is an error.
        key_id: Whose request it was, if that is known.
        model: As the request names it.
        failure: Why it was not answered.
    """
    if key_id:
        span.set_attribute(genai.API_KEY_ID, key_id)
    if model:
        span.set_attribute(genai.REQUEST_MODEL, model[:MAX_TEXT])
    if failure is not None:
        span.set_attribute(genai.ERROR_TYPE, failure.code)
        span.set_attribute(genai.ERROR_MESSAGE, failure.message[:MAX_TEXT])
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR, failure.message[:MAX_TEXT] if failure else ""))


def unrecorded() -> trace.Span:
    """A span that only has ids: every response names a trace, also where telemetry is not configured."""
    context = trace.SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)
    return trace.NonRecordingSpan(context)


def is_traced(method: str, path: str) -> bool:
    """Whether a request has a trace: those of the model APIs, and those that change something."""
    return path.startswith("/v1/") or method not in ("GET", "HEAD", "OPTIONS")


def request_id(headers: Mapping[str, str]) -> str:
    """The client's own id where it is one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else f"req-{secrets.token_hex(12)}"
