"""A replica of a graph with named tensors: tensors in, tensors out.

| file | what |
|---|---|
| `replica` | loads and connects the parts below |
| `handler` | tensors to arrays, arrays to the runner, outputs to the response |
| `endpoints` | the subjects on which it listens |
| `spans` | the trace of a finished request |
"""
