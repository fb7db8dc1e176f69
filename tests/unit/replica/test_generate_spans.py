import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.inference.replica.generate.spans import GenerateSpans
from services.inference.replica.generate.stream import Finish, FinishedRequest, Stream
from services.inference.text.answer_text import AnswerText
from shared.contracts.gateway import FinishReason, Timings
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import DeadlineExceeded
from shared.telemetry import genai
from shared.text.tokenizer import Tokenizer
from tests.support.models.small_tokenizers import byte_level

TOKENIZER = Tokenizer(byte_level())
SECOND = 1_000_000_000


@pytest.fixture
def traced():
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    def record(finish=Finish(FinishReason.STOP)):  # noqa: B008  # immutable
        with tracer.start_as_current_span("POST /v1/chat/completions") as root:
            context = trace.set_span_in_context(root)
        answer = AnswerText(TOKENIZER, resumed=(10, 11))
        answer.push((12, 13, 14))
        stream = Stream("r", "g", answer, 7, 2, 50, None, 100 * SECOND, context, steps=3, batch_max=4, batch_sum=9)
        stream.cached_tokens = 4
        timings = Timings(queue_s=1.0, prefill_s=2.0, decode_s=4.0)
        spans = GenerateSpans(ReplicaAssignment.EXAMPLE, "node-a", tracer)
        spans.record(FinishedRequest(stream, finish, timings), end_ns=108 * SECOND)
        return root.get_span_context(), {span.name: span for span in exporter.get_finished_spans()}

    return record


def test_a_request_is_one_unbroken_piece_of_its_trace(traced):
    root, spans = traced()
    request = spans["replica smollm2"]
    assert request.parent.span_id == root.span_id
    assert request.kind is SpanKind.SERVER
    for name in ("queue", "prefill", "decode"):
        assert spans[name].parent.span_id == request.context.span_id
        assert spans[name].context.trace_id == root.trace_id


def test_times_are_those_that_the_engine_measured(traced):
    _, spans = traced()
    times = {name: (span.start_time // SECOND, span.end_time // SECOND) for name, span in spans.items()}
    assert times["replica smollm2"] == (100, 108)
    assert (times["queue"], times["prefill"], times["decode"]) == ((101, 102), (102, 104), (104, 108))


def test_token_counts_and_batch_are_attributes(traced):
    _, spans = traced()
    attributes = spans["replica smollm2"].attributes
    assert attributes[genai.USAGE_INPUT_TOKENS] == 7
    assert attributes[genai.USAGE_OUTPUT_TOKENS] == 5
    assert attributes[genai.RESUMED_TOKENS] == 2
    assert attributes[genai.USAGE_CACHE_READ_INPUT_TOKENS] == spans["prefill"].attributes[genai.CACHED_TOKENS] == 4
    assert attributes[genai.RESPONSE_FINISH_REASONS] == ("stop",)
    assert attributes[genai.TOKENS_PER_SECOND] == 0.5
    assert attributes[genai.RESPONSE_MODEL] == "smollm2:1"
    assert spans["prefill"].attributes[genai.PROMPT_TOKENS] == 9
    assert spans["decode"].attributes[genai.COMPLETION_TOKENS] == 3
    assert (spans["decode"].attributes[genai.BATCH_MAX], spans["decode"].attributes[genai.BATCH_MEAN]) == (4, 3.0)


def test_an_error_marks_the_span(traced):
    _, spans = traced(Finish(FinishReason.ERROR, DeadlineExceeded("too late")))
    assert spans["replica smollm2"].status.status_code is StatusCode.ERROR
    assert spans["replica smollm2"].attributes[genai.ERROR_TYPE] == "deadline_exceeded"
