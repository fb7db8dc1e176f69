import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.monitor.spans import decode_spans, trace_document
from shared.errors import InvalidInput
from tests.support.factories.otlp import START, make_payload, make_span


def test_a_payload_becomes_spans_that_stand_alone():
    payload = make_payload([make_span(1, 1, name="root"), make_span(1, 2, parent=1, name="child", error=True)])
    decoded = decode_spans(payload)
    root, child = decoded.spans
    assert decoded.refused == 0
    assert (root.name, root.parent_id, root.error) == ("root", b"", False)
    assert (child.name, child.parent_id, child.error) == ("child", root.span_id, True)
    assert (root.start, root.end) == (START, START + 10_000_000)


def test_the_document_is_otlp_json_with_hexadecimal_ids_numbers_as_text_and_enums_as_numbers():
    span = make_span(1, 2, parent=1, error=True)
    span.kind = Span.SPAN_KIND_SERVER
    span.attributes.extend(
        [
            KeyValue(key="gen_ai.usage.input_tokens", value=AnyValue(int_value=37)),
            KeyValue(key="raw", value=AnyValue(bytes_value=b"\xff\x00")),
        ]
    )
    span.links.add(trace_id=b"\xab" * 16, span_id=b"\xcd" * 8)
    [stored] = decode_spans(make_payload([span])).spans
    [resource] = json.loads(trace_document([stored.data]))["resourceSpans"]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "gateway"}}]
    assert resource["scopeSpans"] == [
        {
            "scope": {"name": "llmos.test"},
            "spans": [
                {
                    "traceId": "00000000000000000000000000000001",
                    "spanId": "0000000000000002",
                    "parentSpanId": "0000000000000001",
                    "name": "work",
                    "kind": 2,
                    "startTimeUnixNano": str(START),
                    "endTimeUnixNano": str(START + 10_000_000),
                    "attributes": [
                        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "37"}},
                        {"key": "raw", "value": {"bytesValue": "/wA="}},
                    ],
                    "links": [{"traceId": "ab" * 16, "spanId": "cd" * 8}],
                    "status": {"code": 2},
                }
            ],
        }
    ]


def test_the_document_puts_spans_of_one_process_together():
    gateway = decode_spans(make_payload([make_span(1, 1), make_span(1, 2)], service="gateway")).spans
    replica = decode_spans(make_payload([make_span(1, 3)], service="replica")).spans
    order = [gateway[0].data, replica[0].data, gateway[1].data]
    resources = json.loads(trace_document(order))["resourceSpans"]
    assert [len(resource["scopeSpans"][0]["spans"]) for resource in resources] == [2, 1]


def test_an_empty_document_is_still_a_document():
    assert json.loads(trace_document([])) == {"resourceSpans": []}


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 16, b"\x01" * 15])
def test_a_span_without_a_proper_trace_id_is_left_out_and_the_others_are_stored(wrong):
    bad = make_span(1, 1)
    bad.trace_id = wrong
    decoded = decode_spans(make_payload([bad, make_span(1, 2)]))
    assert (len(decoded.spans), decoded.refused) == (1, 1)


def test_times_beyond_what_can_be_stored_are_brought_within():
    span = make_span(1, 1)
    span.start_time_unix_nano = (1 << 64) - 1
    span.end_time_unix_nano = 5
    [stored] = decode_spans(make_payload([span])).spans
    assert stored.start == stored.end == (1 << 63) - 1


def test_truncated_bytes_are_a_typed_error():
    with pytest.raises(InvalidInput, match="not an OTLP ExportTraceServiceRequest"):
        decode_spans(make_payload([make_span()])[:-3])


@given(st.binary(max_size=300))
def test_any_bytes_are_either_spans_or_a_typed_error(garbage):
    try:
        decoded = decode_spans(garbage)
    except InvalidInput:
        return
    trace_document(span.data for span in decoded.spans)
