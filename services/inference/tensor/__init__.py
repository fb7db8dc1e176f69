"""Runs graphs with named tensors: rows of several requests in one batch, where rows are independent.

    arrays ── batcher.admit ── plan ──> compute (the runner's thread) ── complete ──> the request's future

| file | what |
|---|---|
| `arrays` | pure: a request's tensors checked against the graph's, and as arrays; outputs as tensors |
| `request` | a request: its arrays; its result |
| `limits` | bounds of a batch and of the queue |
| `batcher` | pure: which requests are computed together |
| `compute` | one run of the graph for a batch, and each alone where that fails |
| `graph` | the interface of a model; `runtime.onnx_tensors.OnnxTensors` is one |
"""
