"""What is around every call: the key, ids, a span, metrics, a log line, and errors as status codes.

The key is checked before the message is read. `services.gateway.http.middleware` does the same for HTTP.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from services.gateway import auth
from services.gateway.http import errors
from services.gateway.http.middleware import MAX_TEXT, describe_end, request_id, tracer, unrecorded
from services.gateway.keys import KeyStore
from services.gateway.limits.allowance import Allowance
from services.gateway.metrics import Ended, Metrics
from services.gateway.open_inference.rpc.status import code
from services.gateway.refused_logins import RefusedLogins
from shared.contracts.gateway import ApiKey
from shared.errors import InvalidInput, LlmosError, PermissionDenied, Unauthenticated
from shared.panics import STOPS
from shared.telemetry import genai

_log = structlog.get_logger("llmos.gateway")

INLINE_BYTES = 1 << 16
"""Larger messages are parsed and converted in a thread."""
_CALLED = "POST"
"""HTTP's method of every call, for metrics and the log."""


@dataclass(slots=True)
class Call:
    """One call, as its method sees it."""

    method: str
    """`/inference.GRPCInferenceService/ModelInfer`."""
    route: str = "unmatched"
    """The same if it is one of ours: what metrics count by."""
    key_id: str = ""
    model: str = ""
    """That the request names; set by the method."""
    failure: LlmosError | None = None
    began: float = field(default_factory=time.perf_counter)


Respond = Callable[[Any, Call], Awaitable[Message]]
"""From a request's message to the response's."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the service."""

    answer: Respond
    parse: Callable[[bytes], Message] | None = None
    """Makes the request of a message. None: the message is not read, and needs no key: a stranger's may be large."""
    reads: bool = True
    """Whether it only looks, and so needs no scope for inference."""


class Calls(grpc.GenericRpcHandler):
    """Serves methods by their full names.

    Args:
        methods: By name.
        keys: The known keys; None admits every call.
        metrics: Counts every call.
        refused: Counts refused logins.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        keys: KeyStore | None,
        metrics: Metrics,
        refused: RefusedLogins | None = None,
    ) -> None:
        self._methods = methods
        self._keys = keys
        self._metrics = metrics
        self._refused = refused
        self._refusals = Allowance()

    def refusal(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """What refuses a call of another service without a key; None: it has one, or is ours."""
        if details.method in self._methods:
            return None
        metadata, call = _metadata(details), Call(details.method)
        try:
            self._check_key(call, metadata)
        except LlmosError as error:
            return self._unread(call, metadata, _raising(error))
        return None

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """What handles a call, chosen by its metadata; the message is not read yet."""
        method = self._methods.get(details.method)
        if method is None:
            return None
        metadata, call = _metadata(details), Call(details.method, details.method)
        try:
            self._authorize(method, call, metadata)
        except LlmosError as error:
            return self._unread(call, metadata, _raising(error))
        if (parse := method.parse) is None:
            return self._unread(call, metadata, lambda: _encoded(method.answer(None, call)))

        async def serve(data: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
            async def answer() -> bytes:
                try:
                    message = parse(data) if len(data) <= INLINE_BYTES else await asyncio.to_thread(parse, data)
                except DecodeError as error:
                    raise InvalidInput(f"the message is no request of {call.method}") from error
                return await _encoded(method.answer(message, call))

            return await self._served(call, metadata, context, answer)

        return grpc.unary_unary_rpc_method_handler(serve)

    def _unread(
        self, call: Call, metadata: Mapping[str, str], answer: Callable[[], Awaitable[bytes]]
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """A handler of streams: gRPC reads no message before it."""

        async def serve(_: object, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
            return await self._served(call, metadata, context, answer)

        return grpc.stream_unary_rpc_method_handler(serve)

    def _authorize(self, method: Method, call: Call, metadata: Mapping[str, str]) -> None:
        """Raise `Unauthenticated` or `PermissionDenied` unless the key allows the call, or it needs none."""
        if method.parse is None:
            return
        record = self._check_key(call, metadata)
        if record is not None:
            auth.authorize(record, "GET" if method.reads else _CALLED, call.method)

    def _check_key(self, call: Call, metadata: Mapping[str, str]) -> ApiKey | None:
        """The record of the call's key; None where none is needed."""
        if self._keys is None:
            return None
        record = self._keys.check(auth.given_key(metadata.get("authorization"), metadata.get("x-api-key")))
        call.key_id = record.id
        return record

    async def _served(
        self,
        call: Call,
        metadata: Mapping[str, str],
        context: "grpc.aio.ServicerContext[Any, Any]",
        answer: Callable[[], Awaitable[bytes]],
    ) -> bytes:
        """The response, or the error as the call's status."""
        self._metrics.began()
        span = _span(call, metadata, context)
        ids = {
            "x-request-id": request_id(metadata),
            "x-trace-id": trace.format_trace_id(span.get_span_context().trace_id),
        }
        status: int | None = None
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            try:
                await context.send_initial_metadata(tuple(ids.items()))
                response = await answer()
                status = 200
            except STOPS:  # the client left, or its time was over
                raise
            except BaseException as error:  # noqa: BLE001  # the boundary: every error becomes a status, unknown ones are logged
                call.failure = errors.as_llmos(error, _CALLED, call.method)
                status = errors.status(call.failure)
                if self._refused is not None and isinstance(call.failure, Unauthenticated | PermissionDenied):
                    self._refused.note(call.failure, call.key_id, _address(context.peer()))
            else:
                return response
            finally:
                self._conclude(call, span, ids, errors.CLIENT_GONE if status is None else status)
        retry = [
            (name.decode(), value.decode()) for name, value in errors.headers(call.failure) if name == b"retry-after"
        ]
        await context.abort(code(call.failure), errors.text(call.failure), tuple(retry))
        raise AssertionError("an aborted call has ended")

    def _conclude(self, call: Call, span: trace.Span, ids: Mapping[str, str], status: int) -> None:
        seconds = time.perf_counter() - call.began
        span.set_attribute(genai.HTTP_STATUS, status)
        describe_end(span, status, key_id=call.key_id, model=call.model, failure=call.failure)
        failure = None if call.failure is None else call.failure.code
        self._metrics.ended(Ended(_CALLED, call.route, status, seconds, call.model, failure, call.key_id))
        if 400 <= status < 500 and not call.key_id and self._refusals.take(time.monotonic()) is None:
            return  # a span that does not end is not exported
        span.end()
        fields: dict[str, object] = {
            "method": "gRPC",
            "path": call.method[:MAX_TEXT],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "request_id": ids["x-request-id"],
        }
        if call.key_id:
            fields["key"] = call.key_id
        if call.failure is not None:
            fields |= {"code": call.failure.code, "problem": call.failure.message[:MAX_TEXT]}
        write = _log.debug if status == 200 and not call.model else _log.info
        write("request.ended", **fields)


class KeyedServices(grpc.aio.ServerInterceptor):
    """Lets no stranger call what is not ours: the streams of gRPC's health and reflection."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """The handler of a call, or one that refuses it."""
        return self._calls.refusal(handler_call_details) or await continuation(handler_call_details)


def _metadata(details: grpc.HandlerCallDetails) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in details.invocation_metadata or ()}


def _address(peer: str) -> str:
    """`127.0.0.1` of `ipv4:127.0.0.1:1234`."""
    return peer.partition(":")[2].rpartition(":")[0]


async def _encoded(message: Awaitable[Message]) -> bytes:
    return (await message).SerializeToString()


def _raising(error: LlmosError) -> Callable[[], Awaitable[bytes]]:
    async def answer() -> bytes:
        raise error

    return answer


def _span(call: Call, metadata: Mapping[str, str], context: "grpc.aio.ServicerContext[Any, Any]") -> trace.Span:
    """The root span of a call that infers; others only have ids."""
    if not call.method.endswith("/ModelInfer"):
        return unrecorded()
    span = tracer.start_span(
        call.method,
        Context(),
        kind=SpanKind.SERVER,
        attributes={
            "rpc.system": "grpc",
            "rpc.method": call.method,
            "client.address": context.peer()[:MAX_TEXT],
            "user_agent.original": metadata.get("user-agent", "")[:MAX_TEXT],
        },
    )
    return span if span.get_span_context().is_valid else unrecorded()
