"""The Open Inference Protocol (KServe's and Triton's "v2"), over HTTP and gRPC.

| file | what |
|---|---|
| `models` | which names and versions there are, whether they are ready, what they take and return |
| `inference` | one request: to a graph with named tensors, or to an encoder with its texts |
| `texts` | an encoder's texts, embeddings and scores as tensors |
| `json_tensors` | tensors as lists in JSON |
| `requests` | bodies as JSON, with elements in lists or as bytes behind the JSON |
| `answers` | responses, the same way |
| `api` | the routes' handlers |
| `routes` | the routes |
| `dialect` | the form of its errors |
| `rpc/` | the gRPC service |
"""
