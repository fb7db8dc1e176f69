"""OTLP in both forms: protobuf as it arrives, JSON as it is asked for. Pure.

OTLP/JSON differs from protobuf's own JSON: ids are hexadecimal, enums are numbers.
Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from shared.errors import InvalidInput
from shared.telemetry import genai

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
_MAX_TIME = (1 << 63) - 1
"""Nanoseconds: what SQLite can hold; the year 2262."""
_MAX_TEXT = 256
_FIRST_TOKEN = frozenset({genai.DEPLOYMENT, genai.QUEUE_S, genai.PREFILL_S})
_FACTS = frozenset({genai.HTTP_STATUS, genai.REQUEST_MODEL, genai.API_KEY_ID, genai.ERROR_MESSAGE})


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the gateway's span says of its request, or a root of its own work: by this traces are found."""

    duration: int
    """Nanoseconds."""
    model: str | None = None
    """Deployment that the client named."""
    status: int | None = None
    """Of HTTP."""
    key: str | None = None
    """Id of the API key."""
    reason: str | None = None
    """Why it was refused or failed."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """When a replica had the first token of an answer."""

    deployment: str
    seconds: float
    """From its acceptance: queue and prefill."""


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span with all that is needed to give it back."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    """Empty: a root."""
    name: str
    start: int
    """Unix time in nanoseconds."""
    end: int
    error: bool
    data: bytes
    """A `ResourceSpans` message with this span alone."""
    facts: RequestFacts | None = None
    """Of a span that stands for its trace."""
    first_token: FirstToken | None = None
    """Of a replica's span."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload held."""

    spans: tuple[StoredSpan, ...]
    refused: int
    """Spans whose ids are not ids."""


def decode_spans(payload: bytes) -> Decoded:
    """The spans of an `ExportTraceServiceRequest`; raises `InvalidInput` when it is none."""
    try:
        request = ExportTraceServiceRequest.FromString(payload)
    except DecodeError as error:
        raise InvalidInput(f"not an OTLP ExportTraceServiceRequest: {error}") from error
    spans: list[StoredSpan] = []
    refused = 0
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                if _is_id(span.trace_id, TRACE_ID_BYTES) and _is_id(span.span_id, SPAN_ID_BYTES):
                    spans.append(_stored(resource, scope, span))
                else:
                    refused += 1
    return Decoded(tuple(spans), refused)


def stored_span(data: bytes) -> StoredSpan:
    """The span that `StoredSpan.data` holds."""
    alone = ResourceSpans.FromString(data)
    scope = alone.scope_spans[0]
    return _stored(alone, scope, scope.spans[0])


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)


def _stored(resource: ResourceSpans, scope: ScopeSpans, span: Span) -> StoredSpan:
    alone = ResourceSpans(
        resource=resource.resource,
        schema_url=resource.schema_url,
        scope_spans=[ScopeSpans(scope=scope.scope, schema_url=scope.schema_url, spans=[span])],
    )
    start = min(span.start_time_unix_nano, _MAX_TIME)
    end = max(start, min(span.end_time_unix_nano, _MAX_TIME))
    return StoredSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        name=span.name,
        start=start,
        end=end,
        error=span.status.code == Status.STATUS_CODE_ERROR,
        data=alone.SerializeToString(),
        facts=_facts(span, end - start),
        first_token=_first_token(span),
    )


def _first_token(span: Span) -> FirstToken | None:
    found = {pair.key: pair.value for pair in span.attributes if pair.key in _FIRST_TOKEN}
    if len(found) != len(_FIRST_TOKEN):
        return None
    seconds = found[genai.QUEUE_S].double_value + found[genai.PREFILL_S].double_value
    return FirstToken(found[genai.DEPLOYMENT].string_value[:_MAX_TEXT], seconds)


def _facts(span: Span, duration: int) -> RequestFacts | None:
    found = {pair.key: pair.value for pair in span.attributes if pair.key in _FACTS}
    if span.parent_span_id and genai.HTTP_STATUS not in found:
        return None
    texts = {key: value.string_value[:_MAX_TEXT] or None for key, value in found.items()}
    status = found[genai.HTTP_STATUS].int_value if genai.HTTP_STATUS in found else 0
    return RequestFacts(
        duration=duration,
        model=texts.get(genai.REQUEST_MODEL),
        status=status if 100 <= status <= 599 else None,
        key=texts.get(genai.API_KEY_ID),
        reason=texts.get(genai.ERROR_MESSAGE),
    )


def trace_document(spans: Iterable[bytes]) -> str:
    """OTLP JSON of `ResourceSpans` messages, those of one resource and scope put together again."""
    resources: dict[bytes, ResourceSpans] = {}
    scopes: dict[tuple[bytes, bytes], ScopeSpans] = {}
    for data in spans:
        alone = ResourceSpans.FromString(data)
        resource_key = alone.resource.SerializeToString(deterministic=True) + alone.schema_url.encode()
        if resource_key not in resources:
            resources[resource_key] = ResourceSpans(resource=alone.resource, schema_url=alone.schema_url)
        for scope in alone.scope_spans:
            scope_key = scope.scope.SerializeToString(deterministic=True) + scope.schema_url.encode()
            if (resource_key, scope_key) not in scopes:
                merged = resources[resource_key].scope_spans.add(schema_url=scope.schema_url)
                merged.scope.CopyFrom(scope.scope)
                scopes[resource_key, scope_key] = merged
            scopes[resource_key, scope_key].spans.extend(scope.spans)
    document = MessageToDict(TracesData(resource_spans=resources.values()), use_integers_for_enums=True)
    document.setdefault("resourceSpans", [])
    for resource in document["resourceSpans"]:
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                _ids_to_hex(span)
                for link in span.get("links", []):
                    _ids_to_hex(link)
    return orjson.dumps(document).decode()


def _ids_to_hex(item: dict[str, Any]) -> None:
    for key in ("traceId", "spanId", "parentSpanId"):
        if key in item:
            item[key] = base64.b64decode(item[key]).hex()
