"""Switches off what libraries report to their makers: nothing that a model or a request says may leave the machine.

ONNX Runtime's wheels write a record of each session (names of the graph, its producer and its operator sets) to
`~/.cache/Microsoft` and send it to a collector on the internet. It reads the variable when it is imported, and its
own `disable_telemetry_events` comes too late for the first record.

A package whose modules import such a library imports this module in its `__init__`, which Python runs before any of
its modules. Child processes inherit the variables.
"""

import os
import sys

OPT_OUTS = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which tokenizers installs
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray
    "DO_NOT_TRACK": "1",  # consoledonottrack.com: what is not named here
}
"""Variables that the libraries read, and their values."""

os.environ.update(OPT_OUTS)

if "onnxruntime" in sys.modules:  # imported by a program that uses LLMOS as a library: stop it from here on
    sys.modules["onnxruntime"].disable_telemetry_events()
