"""Any ONNX graph with named tensors, taken as it is.

| file | what |
|---|---|
| `signature` | the tensors that a graph takes and returns |
| `trial` | runs the graph on made-up inputs: whether rows are independent, what it gives |
| `version` | the files of a version and their manifest |
"""
