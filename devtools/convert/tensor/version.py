"""Turns an ONNX file into the files of a version and their manifest: the graph is served as it is."""

import hashlib
import math
import shutil
from pathlib import Path

import onnx
import onnxruntime
import structlog

from devtools.convert.decoder_version import Progress, describe_file, no_progress, staged
from devtools.convert.external_data import data_files
from devtools.convert.memory_need import PACKED, PROCESS
from devtools.convert.onnx_file import read_onnx
from devtools.convert.source_folder import check_inside
from devtools.convert.tensor.signature import read_signature
from devtools.convert.tensor.trial import Trial, try_graph
from shared.contracts.manifest import Lineage, Manifest, MemoryNeed
from shared.contracts.smoke_test import SmokeTest
from shared.contracts.tensor import DEFAULT_BATCH, MAX_QUEUED_BYTES, TensorSpec
from shared.sample_tensors import first_numbers
from shared.smoke_test import runtime
from shared.storage.digest import file_digest

TOOL = "devtools.convert"
FORMAT = 1
"""Of what the conversion writes: raised whenever the same file would become another version than before."""
CONVERSION = f"tensor, format {FORMAT}"
"""`Lineage.conversion`."""
_AT_ONCE = 4
"""Resident bytes per byte of the widest tensor: the arena is not packed without gaps."""
_TEXT_BYTES = 64
"""Of an element of BYTES, a guess."""

_log = structlog.get_logger("llmos.convert")


def convert_tensor(source: Path, destination: Path, *, progress: Progress = no_progress) -> Manifest:
    """Write the version of the graph `source`, an ONNX file, into the folder `destination`.

    On any failure `destination` is as it was. `progress` is called with the stages read, build, check and finish.

    Args:
        source: The file; weights may lie in files beside it.
        destination: Made if need be.
        progress: Watches.

    Raises:
        CorruptFile: It is no ONNX file, or weights are missing or not what their file can hold.
        InvalidInput: Weights lead out of the folder.
        UnsupportedFormat: It has operators, types or shapes that can't be served; the message names them.
        StorageFull: No room for the files.
    """
    progress("read", 0.0)
    model, files = _read(source)
    spec = read_signature(source, model)
    progress("read", 1.0)
    with staged(destination) as folder:
        progress("build", 0.0)
        shutil.copyfile(source, folder / "model.onnx")
        for file in files:
            shutil.copyfile(file, folder / file.name)
        progress("build", 1.0)
        progress("check", 0.0)
        trial = try_graph(folder, spec)
        if trial.problem:
            _log.warning("tensor.rows_not_batched", source=source.name, reason=trial.problem)
        spec = spec.model_copy(update={"batched": trial.rows})
        progress("check", 1.0)
        progress("finish", 0.5)
        manifest = Manifest(
            task="tensor",
            format="onnx-tensor",
            files=tuple(describe_file(path) for path in sorted(folder.iterdir())),
            tensor=spec,
            memory=_memory(model, spec, trial, sum(path.stat().st_size for path in folder.iterdir())),
            lineage=Lineage(
                source=source.resolve().name,
                source_digest=tensor_digest(source),
                tool=TOOL,
                conversion=CONVERSION,
                quantization="as exported",
            ),
            smoke_test=_smoke_test(spec, trial),
        )
    progress("finish", 1.0)
    _log.info("tensor.converted", source=manifest.lineage.source, bytes=manifest.size, batched=spec.batched)
    return manifest


def tensor_digest(source: Path) -> str:
    """SHA-256 of the list of the files that are read with their SHA-256s, as `sha256sum` prints it."""
    files = (source, *_read(source)[1])
    return hashlib.sha256("".join(f"{file_digest(path)}  {path.name}\n" for path in files).encode()).hexdigest()


def _read(source: Path) -> tuple[onnx.ModelProto, tuple[Path, ...]]:
    model = read_onnx(source)
    files = data_files(source, model)
    check_inside(source.parent, files)
    return model, files


def _smoke_test(spec: TensorSpec, trial: Trial) -> SmokeTest | None:
    if trial.outputs is None:
        return None
    output = first_numbers(trial.outputs, [put.name for put in spec.outputs])
    return SmokeTest(prompt=(trial.length,), output=output, runtime=runtime(onnxruntime.__version__))


def _memory(model: onnx.ModelProto, spec: TensorSpec, trial: Trial, size: int) -> MemoryNeed:
    rows = DEFAULT_BATCH if spec.batched else 1
    activations = _AT_ONCE * rows * _widest(model, spec, trial.length or 1) + MAX_QUEUED_BYTES
    return MemoryNeed(weights=int((1 + PACKED) * size), kv_per_token=0, activations=activations, process=PROCESS)


def _widest(model: onnx.ModelProto, spec: TensorSpec, length: int) -> int:
    """Bytes of the largest tensor between the graph's nodes for one row, as far as its shape can be inferred."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    taken = {put.name: put for put in spec.inputs}
    for put in fixed.graph.input:
        if put.name not in taken:
            continue
        for at, dimension in enumerate(put.type.tensor_type.shape.dim):
            if dimension.WhichOneof("value") != "dim_value" or dimension.dim_value < 0:
                dimension.Clear()
                dimension.dim_value = 1 if at == 0 else length
    try:
        graph = onnx.shape_inference.infer_shapes(fixed).graph
    except Exception as error:  # noqa: BLE001  # its C++ raises what it likes; the inputs alone are known then
        _log.info("tensor.shapes_not_inferred", reason=str(error)[:200])
        graph = fixed.graph
    return max(_bytes(put) for put in (*graph.value_info, *graph.input, *graph.output))


def _bytes(put: onnx.ValueInfoProto) -> int:
    tensor = put.type.tensor_type
    lengths = [max(1, dimension.dim_value) for dimension in tensor.shape.dim]
    try:
        width = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)
    except (KeyError, TypeError, ValueError):
        width = 8
    return (_TEXT_BYTES if tensor.elem_type == onnx.TensorProto.STRING else width) * math.prod(lengths)
