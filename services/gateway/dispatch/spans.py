"""The span of a request to the models, from the gateway's side."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from shared.errors import LlmosError
from shared.telemetry import genai

tracer = trace.get_tracer("llmos.gateway")

MAX_NAME = 256
"""Characters of what a client sent that a span keeps."""


@contextmanager
def request_span(
    operation: str, model: str, request_id: str, attributes: Mapping[str, float] | None = None
) -> Iterator[trace.Span]:
    """A client span with OpenTelemetry's attributes of generative AI; ends with the block and keeps its error."""
    span = tracer.start_span(
        f"{operation} {model:.{MAX_NAME}}",
        kind=SpanKind.CLIENT,
        attributes={
            genai.OPERATION_NAME: operation,
            genai.PROVIDER_NAME: genai.PROVIDER_LLMOS,
            genai.REQUEST_MODEL: model[:MAX_NAME],
            genai.REQUEST_ID: request_id,
            **(attributes or {}),
        },
    )
    try:
        yield span
    except LlmosError as error:
        span.set_status(Status(StatusCode.ERROR, error.message[:MAX_NAME]))
        span.set_attribute(genai.ERROR_TYPE, error.code)
        raise
    finally:
        span.end()
