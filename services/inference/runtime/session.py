"""ONNX Runtime sessions with the settings that serving needs."""

from pathlib import Path

import onnxruntime as ort

from shared.errors import CorruptFile, InvalidInput, NotFound


def open_session(
    model: Path, *, threads: int, provider: str = "cpu", shapes_vary: bool = False
) -> ort.InferenceSession:
    """Load a graph.

    Args:
        model: An ONNX file; external weights lie beside it.
        threads: Threads that one step computes with (the grant); the caller is one of them.
        provider: `cpu`.
        shapes_vary: Plan memory anew for each run: a plan is kept for ever for each shape of the inputs otherwise.

    Raises:
        NotFound: The file does not exist.
        CorruptFile: ONNX Runtime can't load it.
        InvalidInput: The provider is unknown, or threads is below 1.
    """
    if provider != "cpu":
        raise InvalidInput(f"provider {provider!r} is not supported; use 'cpu'", param="provider")
    if threads < 1:
        raise InvalidInput(f"threads is {threads}; a replica needs at least 1", param="threads")
    if not model.is_file():
        raise NotFound(f"{model} does not exist")
    options = session_options(threads)
    options.enable_mem_pattern = not shapes_vary
    try:
        return ort.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen classes without a common base
        raise CorruptFile(f"ONNX Runtime can't load {model.name}: {error}") from error


def session_options(threads: int) -> ort.SessionOptions:
    """Options for a graph that runs one small step after another on `threads` threads."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A replica shares its cores with other processes. Threads that spin while they wait make it 1 to 10 % faster on
    # an idle machine, but 1.4 to 2.4 times slower where two other processes are busy (SmolLM2, two cores).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
