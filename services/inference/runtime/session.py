"""ONNX Runtime sessions with the settings that serving needs."""

from pathlib import Path
from typing import Any

import onnxruntime as ort
import structlog

import operators
from shared.errors import CorruptFile, InvalidInput, NotFound

VERSION = ort.__version__
CUDA = "CUDAExecutionProvider"
SPIN_US = "20"
"""How long a thread spins; after a run none does."""

_log = structlog.get_logger("llmos.runtime")


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built with CUDA; whether a GPU and its libraries are there shows at the start."""
    return CUDA in ort.get_available_providers()


def open_session(model: Path, *, threads: int, spin: bool = False) -> ort.InferenceSession:
    """Load a graph for the CPU.

    Args:
        model: An ONNX file; external weights lie beside it.
        threads: Threads that one step computes with (the grant); the caller is one of them.
        spin: Whether they wait for one another actively, for a moment: faster where their cores are free.

    Raises:
        NotFound: The file does not exist.
        CorruptFile: ONNX Runtime can't load it.
        InvalidInput: threads is below 1.
    """
    options = session_options(threads, spin=spin)
    operators.register(options)
    return _open(model, options, ["CPUExecutionProvider"])


def open_cuda_session(model: Path, *, threads: int, arena_bytes: int) -> ort.InferenceSession:
    """Load a graph for the GPU that this process sees first.

    Args:
        model: An ONNX file; external weights lie beside it.
        threads: Threads of what the graph computes on the host, if anything.
        arena_bytes: What weights and activations may take of the GPU's memory.

    Raises:
        NotFound: The file does not exist.
        CorruptFile: ONNX Runtime can't load it.
        InvalidInput: This ONNX Runtime has no CUDA, or could not start it. It never computes on the CPU instead.
    """
    if not has_cuda():
        raise InvalidInput(
            f"CUDA was asked for, but ONNX Runtime {ort.__version__} has {', '.join(ort.get_available_providers())}; "
            "install 'llmos[inference-gpu]' instead of 'llmos[inference]', or deploy with --device cpu",
            param="device",
        )
    ort.preload_dlls()  # CUDA and cuDNN from their wheels; a system's own libraries are found without
    options = session_options(threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = _open(model, options, [(CUDA, cuda_options(arena_bytes)), "CPUExecutionProvider"])
    if CUDA not in session.get_providers():
        raise InvalidInput(
            "CUDA was asked for, but ONNX Runtime could not start it: it needs a driver, CUDA and cuDNN as "
            "docs/cuda.md says; its log above names what is missing",
            param="device",
        )
    session.disable_fallback()
    misplaced = nodes_elsewhere(session, CUDA)
    if misplaced:
        _log.warning(
            "session.nodes_not_on_gpu", nodes=misplaced[:20], count=len(misplaced), cost="copies in each step"
        )
    return session


def cuda_options(arena_bytes: int) -> dict[str, str]:
    """Of the CUDA provider (onnxruntime.ai, "CUDA Execution Provider", configuration options).

    The arena grows by what is asked for instead of doubling, within the grant. cuDNN computes average pools only, so
    a search for the best convolution would be time for nothing.
    """
    return {
        "device_id": "0",
        "gpu_mem_limit": str(arena_bytes),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
    }


def nodes_elsewhere(session: ort.InferenceSession, provider: str) -> list[str]:
    """The nodes that another provider computes, as `name (type, provider)`; needs the assignment to be recorded."""
    return [
        f"{node.name} ({node.op_type}, {part.ep_name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
    ]


def session_options(threads: int, *, spin: bool = False) -> ort.SessionOptions:
    """Options for a graph that runs one small step after another on `threads` threads."""
    if threads < 1:
        raise InvalidInput(f"threads is {threads}; a replica needs at least 1", param="threads")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waking a thread takes as long as its part of a lone token (docs/adr/0013). Where another process needs the
    # cores, threads that spin without a limit are 1.2 to 1.5 times slower, with this one up to 1.2 times.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    if spin:
        options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_US)
        options.add_session_config_entry("session.force_spinning_stop", "1")
    # A plan of the memory is kept for each shape of the inputs, and takes the activations' memory once more
    # (SmolLM2: 40 MB with chunks of 512). Without it steps are as fast: 28.9 against 29.2 ms at batch 1.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def _open(model: Path, options: ort.SessionOptions, providers: list[Any]) -> ort.InferenceSession:
    if not model.is_file():
        raise NotFound(f"{model} does not exist")
    try:
        return ort.InferenceSession(model, sess_options=options, providers=providers)
    except Exception as error:  # onnxruntime raises a dozen classes without a common base
        raise CorruptFile(f"ONNX Runtime can't load {model.name}: {error}") from error
