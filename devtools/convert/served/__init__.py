"""Reads a version's own files back: its graph becomes an architecture and weights again.

| file | what |
|---|---|
| `version` | a folder with a version's files as a `DecoderModel` |
| `architecture` | the architecture, from nodes, constants and the spec |
| `rotation` | frequencies from tables of cosines and sines |
| `places` | where each tensor lies in the graph |
| `source` | the weights, as a `WeightSource` |
"""
