"""Exports models with an encoder and a decoder through Hugging Face's optimum, in an environment of its own.

| file | what |
|---|---|
| `environment` | makes the environment, and finds it |
| `export` | a checkpoint becomes a version |
| `checkpoint` | checks a checkpoint before a library reads it |
| `facts` | what the export says of the model, as the version's specification |
| `check` | the graphs against the unchanged model's logits |
| `export_graphs` | the program that runs in the environment |

optimum 2.1 needs transformers below 5 and PyTorch: versions that LLMOS's own environment is not to be held to, and a
gigabyte that most people never need.
"""

import shared.privacy  # noqa: F401  # before the first import of onnxruntime
