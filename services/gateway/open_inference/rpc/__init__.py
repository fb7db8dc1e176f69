"""The gRPC service of the Open Inference Protocol, with gRPC's health and reflection.

| file | what |
|---|---|
| `server` | the server: its port, its bounds, its end |
| `calls` | around every call: key, ids, span, metrics, log line, errors |
| `service` | the six methods |
| `wire` | how much work it is to parse a request |
| `contents` | tensors in messages: raw, or in the fields of their types |
| `status` | errors as gRPC's status codes |
| `open_inference_pb2` | the messages, written by `make protocol` from `open_inference.proto` |
"""
