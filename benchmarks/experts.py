"""A mixture's products beside dense ones with the same active weights, and beside the reading of their bytes.

    python -m benchmarks.experts [--type Q4_K] [--rounds N] [--threads N]

Gate and up of one layer of Qwen3-30B-A3B's shape: 128 experts of 1536 x 2048, 8 for a token, chosen at random. The
dense operator multiplies by one matrix with the rows of 8 experts. One JSON line per number of tokens: milliseconds,
`ratio` dense / experts (1: a token's experts cost what the same weights cost in one matrix; with more tokens it
falls, because each token has experts of its own), and the bytes of the matrices in use a second, beside what `sum` of
NumPy reads a second.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from onnx import TensorProto, helper

import operators
from benchmarks.processor import processor_name

EXPERTS, USED, ROWS, COLUMNS = 128, 8, 1536, 2048
TOKENS = (1, 2, 4, 8, 16, 64, 192)

Array = np.ndarray[Any, Any]


def session(kind: str, inputs: list[str], attributes: dict[str, Any], threads: int) -> onnxruntime.InferenceSession:
    """One node, whose matrix is an input: so it lies where the caller has it."""
    types = {"x": TensorProto.FLOAT, "experts": TensorProto.INT64, "matrix": TensorProto.UINT8}
    node = helper.make_node(kind, inputs, ["y"], domain=operators.DOMAIN, gate=0, K=COLUMNS, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, types[name], None) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(operators.DOMAIN, operators.VERSION)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    operators.register(options)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def seconds(work: Callable[[int], object], rounds: int) -> float:
    """The median over rounds; `work` gets the number of the round."""
    times = []
    for number in range(rounds):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Compare for each number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--type", default="Q4_K", choices=("Q4_0", "Q4_K", "Q6_K", "Q8_0"))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    kind = GGMLQuantizationType[options.type]
    columns, size = GGML_QUANT_SIZES[kind]
    expert_bytes = ROWS * COLUMNS // columns * size
    random = np.random.default_rng(0)
    # Any bits are codes; bytes below 60 make no float16 that is no number.
    matrix = random.integers(0, 60, EXPERTS * expert_bytes, dtype=np.uint8)
    layout = {"ggml_type": int(kind)}
    mixture = session(
        "MatMulExperts", ["x", "experts", "matrix"], layout | {"N": ROWS, "experts": EXPERTS}, options.threads
    )
    dense = session("MatMulBlocks", ["x", "matrix"], layout | {"N": USED * ROWS}, options.threads)
    one = USED * expert_bytes
    as_words = matrix.view(np.uint64)
    reading = matrix.nbytes / seconds(lambda _: as_words.sum(), 5)
    machine = {"cpu": processor_name(), "threads": options.threads, "type": options.type}
    print(
        json.dumps({"benchmark": "experts", "point": "machine", **machine, "numpy_gb_s": round(reading / 1e9, 1)}),
        flush=True,
    )
    for tokens in TOKENS:
        x = random.standard_normal((tokens, COLUMNS), dtype=np.float32)
        chosen = [
            np.stack([random.permutation(EXPERTS)[:USED] for _ in range(tokens)]) for _ in range(options.rounds)
        ]
        places = [number % (EXPERTS // USED) * one for number in range(options.rounds)]

        def of_experts(number: int, x: Array = x, chosen: list[Array] = chosen) -> object:
            return mixture.run(None, {"x": x, "experts": chosen[number], "matrix": matrix})

        def of_one(number: int, x: Array = x, places: list[int] = places) -> object:
            return dense.run(None, {"x": x, "matrix": matrix[places[number] : places[number] + one]})

        of_experts(0), of_one(0)
        experts_s, dense_s = seconds(of_experts, options.rounds), seconds(of_one, options.rounds)
        in_use = statistics.mean(len(np.unique(numbers)) for numbers in chosen)
        print(json.dumps({
            "benchmark": "experts", "point": "gate_up", "tokens": tokens, "experts_in_use": round(in_use, 1),
            "experts_ms": round(1000 * experts_s, 3), "dense_ms": round(1000 * dense_s, 3),
            "ratio": round(dense_s / experts_s, 3), "gb_s": round(in_use * expert_bytes / experts_s / 1e9, 1),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
