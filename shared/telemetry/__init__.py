"""OpenTelemetry over the bus: spans, structured logs with trace ids, `gen_ai` names."""
