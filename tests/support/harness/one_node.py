"""A graph of one node, run on arrays, with each of the kernels that this processor has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import operators

_DOMAINS = {"": 21, "com.microsoft": 1, operators.DOMAIN: operators.VERSION}

Array = np.ndarray[Any, Any]

_INFO = Path("/proc/cpuinfo")
_FEATURES = set(_INFO.read_text().split()) if _INFO.exists() else set()

_FAST = [
    pytest.param(name, marks=pytest.mark.skipif(feature not in _FEATURES, reason=f"no {feature} here"))
    for name, feature in {"vnni": "avx512_vnni", "avx2": "avx2"}.items()
]
fast_kernels = pytest.mark.parametrize("kernels", _FAST)
"""For each value of LLMOS_KERNELS that stands for instructions of a processor; skipped where it has not these."""
all_kernels = pytest.mark.parametrize("kernels", [*_FAST, "portable"])
"""Those, and plain C."""


class OneNode:
    """A node of `kind` with named inputs ("" is one left out); those in `constants` are initializers of the graph.

    `outputs` are so many of float32, or of the types given.
    """

    def __init__(  # what a node is made of
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: int | Sequence[type] = 1,
        *,
        example: Mapping[str, Array],
        constants: Mapping[str, Array] | None = None,
        domain: str = operators.DOMAIN,
        threads: int = 1,
        **attributes: Any,
    ) -> None:
        types = [np.float32] * outputs if isinstance(outputs, int) else outputs
        names = [f"output{i}" for i in range(len(types))]
        node = helper.make_node(kind, inputs, names, domain=domain, **attributes)
        described = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(example[name].dtype), [None] * example[name].ndim
            )
            for name in inputs
            if name in example
        ]
        made = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
            for name, kind in zip(names, types, strict=True)
        ]
        stored = [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()]
        graph = helper.make_graph([node], "one", described, made, initializer=stored)
        opsets = [helper.make_opsetid(name, version) for name, version in _DOMAINS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        operators.register(options)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, **inputs: Array) -> list[Array]:
        """All outputs."""
        outputs: list[Array] = self._session.run(None, inputs)
        return outputs
