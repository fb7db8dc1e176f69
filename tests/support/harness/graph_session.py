"""Runs a converted graph the way the engine does: caches in place, ids in, logits of the output rows out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import operators
from devtools.convert.graph.float_form import with_float_activations
from shared.contracts.manifest import DecoderSpec


class GraphSession:
    """A graph with caches for `batch` sequences; `float_activations` rounds nothing."""

    def __init__(
        self, folder: Path, spec: DecoderSpec, *, batch: int = 1, max_len: int = 64, float_activations: bool = False
    ) -> None:
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        if float_activations:
            model = with_float_activations(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        if float_activations:  # no constants of all weights as floats
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        operators.register(options)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        kept = "float32" if float_activations else spec.kv_type
        shape = (batch, spec.kv_heads, max_len, spec.head_dim)
        self.batch = batch
        self._binding = self._session.io_binding()
        self._caches = []
        for layer in range(spec.layers):
            for kind in ("key", "value"):
                cache = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, kept))
                self._caches.append(cache)
                self._binding.bind_ortvalue_input(f"past_{kind}.{layer}", cache)
                self._binding.bind_ortvalue_output(f"present_{kind}.{layer}", cache)

    def step(
        self, ids: Sequence[Sequence[int]], lengths: Sequence[int], outputs: Sequence[int]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Advance each sequence by its row of `ids`, to `lengths` tokens in all; logits of the flat `outputs`."""
        binding = self._binding
        binding.bind_cpu_input("input_ids", np.array(ids, np.int64))
        if operators.takes_slots(self._session):
            binding.bind_cpu_input("slots", np.arange(self.batch, dtype=np.int32))
        binding.bind_cpu_input("seqlens_k", np.array(lengths, np.int32) - 1)
        binding.bind_cpu_input("total_sequence_length", np.array(max(lengths), np.int32))
        binding.bind_cpu_input("output_index", np.array(outputs, np.int64))
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding)
        logits: np.ndarray[Any, np.dtype[np.float32]] = binding.get_outputs()[-1].numpy()
        return logits

    def all_logits(self, ids: Sequence[int], *, chunk: int | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits of every position of one sequence, read in chunks of `chunk` tokens."""
        chunk = chunk or len(ids)
        parts = [
            self.step(
                [ids[start : start + chunk]], [min(start + chunk, len(ids))], range(len(ids[start : start + chunk]))
            )
            for start in range(0, len(ids), chunk)
        ]
        return np.concatenate(parts)
