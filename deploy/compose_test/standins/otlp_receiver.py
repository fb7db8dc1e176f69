"""A stand-in for Jaeger: takes spans by OTLP over gRPC on 4317 and answers its JSON queries on 16686.

`/api/services` and `/api/traces/<id>`, with the fields of a span that tests read.
"""

import json
import signal
import sys
import threading
from collections import OrderedDict
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages

_MOST_TRACES = 10_000
"""Traces; the oldest goes."""
_TRACES: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
_LOCK = threading.Lock()


def export(request: messages.ExportTraceServiceRequest, _context: grpc.ServicerContext) -> Any:
    """`TraceService.Export`."""
    with _LOCK:
        for resource in request.resource_spans:
            names = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                parent = [{"refType": "CHILD_OF", "spanID": span.parent_span_id.hex()}] if span.parent_span_id else []
                span_shown = {
                    "spanID": span.span_id.hex(),
                    "references": parent,
                    "processID": names[0] if names else "?",
                }
                _TRACES.setdefault(span.trace_id.hex(), []).append(span_shown)
        while len(_TRACES) > _MOST_TRACES:
            _TRACES.popitem(last=False)
    return messages.ExportTraceServiceResponse()


def queried(path: str) -> Any:
    """What Jaeger answers to a query, or None."""
    with _LOCK:
        if path == "/api/services":
            return sorted({span["processID"] for spans in _TRACES.values() for span in spans})
        spans = _TRACES.get(path.removeprefix("/api/traces/"))
        if spans is None:
            return None
        processes = {span["processID"]: {"serviceName": span["processID"]} for span in spans}
        return [{"spans": list(spans), "processes": processes}]


class Pages(BaseHTTPRequestHandler):
    """The queries."""

    def do_GET(self) -> None:  # http.server's name
        """Answer one."""
        data = queried(self.path.split("?")[0])
        body = json.dumps({"data": data}).encode()
        self.send_response(404 if data is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """No line for each query."""


def main() -> None:
    """Serve until SIGTERM."""
    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=messages.ExportTraceServiceRequest.FromString,
        response_serializer=messages.ExportTraceServiceResponse.SerializeToString,
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    server.add_insecure_port("0.0.0.0:4317")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("0.0.0.0", 16686), Pages).serve_forever()  # noqa: S104  # in a container


if __name__ == "__main__":
    main()
