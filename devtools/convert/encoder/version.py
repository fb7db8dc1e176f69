"""Converts a directory with an encoder into the files of a version and their manifest. Needs no torch."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import structlog
from tokenizers import Tokenizer

from devtools.convert.decoder_version import Progress, describe_file, no_progress, staged
from devtools.convert.encoder.check import check_against_reference, check_rows_independent, one_output
from devtools.convert.encoder.config import FAMILIES, EncoderConfig, Pooling, read_encoder_config, read_license
from devtools.convert.encoder.exported import find_exported, read_exported
from devtools.convert.encoder.graph import LOGITS, STATES, EncoderGraphBuilder
from devtools.convert.encoder.weights import EncoderWeights
from devtools.convert.graph.weight_file import WeightFile
from devtools.convert.hf.directory import read_json, read_tensors, weight_files
from devtools.convert.hf.tokenizer import read_tokenizer
from devtools.convert.memory_need import PACKED, PROCESS
from devtools.convert.source_folder import check_source_folder
from devtools.convert.verify.smoke_test import OUTPUTS, TEXT
from shared.contracts.embedding import BATCH_TOKENS
from shared.contracts.manifest import EncoderInput, EncoderSpec, Lineage, Manifest, MemoryNeed
from shared.contracts.smoke_test import SmokeTest
from shared.errors import UnsupportedFormat
from shared.smoke_test import runtime
from shared.storage.digest import file_digest

TOOL = "devtools.convert"
_BUILD, _EXPORTED = "float32", "as exported"
_ROWS_TOLERANCE = 1e-3
"""Relative: an exported graph may hold int8 matrices, whose activations are rounded."""

_log = structlog.get_logger("llmos.convert")


def is_encoder_directory(path: Path) -> bool:
    """Whether `path` holds an encoder: sentence-transformers' modules, an exported graph, or one of `FAMILIES`."""
    if not (path / "config.json").is_file():
        return False
    if (path / "modules.json").is_file() or find_exported(path) is not None:
        return True
    return read_json(path / "config.json").get("model_type") in FAMILIES


@dataclass(frozen=True, slots=True)
class _Written:
    """The graph that was written."""

    inputs: tuple[EncoderInput, ...]
    output: str
    pooling: Pooling
    weight_bytes: int
    quantization: str
    metrics: dict[str, float]


def convert_encoder(source: Path, destination: Path, *, name: str = "", progress: Progress = no_progress) -> Manifest:
    """Write the version that the directory `source` describes into the folder `destination`.

    An exported graph (`model.onnx` or `onnx/model.onnx`) is taken as it is; else the graph is built from safetensors.
    On any failure `destination` is as it was. `progress` is called with the stages read, build, check and finish.

    Args:
        source: With `config.json`, `tokenizer.json` and an ONNX graph or safetensors.
        destination: Made if need be.
        name: What the version is said to come from; the folder's name if empty.
        progress: Watches.

    Raises:
        NotFound: a file is missing.
        CorruptFile: a file is damaged, or contradicts another.
        InvalidInput: a file leads out of the directory.
        UnsupportedFormat: a kind of model that LLMOS cannot convert.
        StorageFull: no room for the files.
    """
    progress("read", 0.0)
    check_source_folder(source)
    config = read_encoder_config(source)
    tokenizer = read_tokenizer(source, vocab_size=config.vocab_size)
    digest = encoder_digest(source)
    progress("read", 1.0)
    write = _from_exported if find_exported(source) else _from_safetensors
    with staged(destination) as folder:
        written = write(source, folder, config, progress)
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        progress("finish", 0.5)
        manifest = Manifest(
            task=config.task,
            format="onnx-encoder",
            files=tuple(describe_file(path) for path in sorted(folder.iterdir())),
            encoder=_spec(config, written),
            memory=_memory(config, written.weight_bytes),
            lineage=Lineage(
                source=name or source.resolve().name,
                source_digest=digest,
                tool=TOOL,
                quantization=written.quantization,
                license=read_license(source),
            ),
            metrics=written.metrics,
            smoke_test=_smoke_test(folder, config, tokenizer, written),
        )
    progress("finish", 1.0)
    _log.info("encoder.converted", source=manifest.lineage.source, bytes=manifest.size, **written.metrics)
    return manifest


def _from_safetensors(source: Path, folder: Path, config: EncoderConfig, progress: Progress) -> _Written:
    if config.family not in FAMILIES:
        raise UnsupportedFormat(
            f"graphs of the family {config.family!r} are not built; supported are {', '.join(FAMILIES)}. Export the"
            " model as ONNX (optimum-cli export onnx) and import that directory",
            param="source",
        )
    position_kind = read_json(source / "config.json").get("position_embedding_type", "absolute")
    if position_kind != "absolute":
        raise UnsupportedFormat(f"position_embedding_type {position_kind!r} is not supported", param="source")
    weights = EncoderWeights(read_tensors(source))
    with WeightFile(folder / "model.onnx.data") as file:
        builder = EncoderGraphBuilder(config, weights, file)
        graph = builder.build(lambda layer: progress("build", (layer + 1) / config.layers))
    weights.check_all_used(head=config.pooling == "none")
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    progress("check", 0.0)
    error = check_against_reference(folder, config, weights, builder.inputs)
    progress("check", 1.0)
    return _Written(
        inputs=builder.inputs,
        output=LOGITS if config.task == "classify" else STATES,
        pooling=config.pooling,
        weight_bytes=builder.graph.mapped_bytes + int(PACKED * builder.graph.packed_bytes),
        quantization=_BUILD,
        metrics={"output_error": error},
    )


def _from_exported(source: Path, folder: Path, config: EncoderConfig, progress: Progress) -> _Written:
    path = find_exported(source)
    assert path is not None
    graph = read_exported(path)
    progress("build", 0.0)
    graph.copy(folder)
    progress("build", 1.0)
    output, pooling = graph.choose_output(classifies=config.task == "classify", pooling=config.pooling)
    progress("check", 0.0)
    error = check_rows_independent(folder, config, graph.inputs, output, tolerance=_ROWS_TOLERANCE)
    progress("check", 1.0)
    size = sum(file.stat().st_size for file in (graph.path, *graph.data))
    return _Written(graph.inputs, output, pooling, int((1 + PACKED) * size), _EXPORTED, {"padding_error": error})


def _smoke_test(folder: Path, config: EncoderConfig, tokenizer: Tokenizer, written: _Written) -> SmokeTest:
    prompt = (tokenizer.encode(TEXT).ids or [config.pad_token_id])[: config.max_len]
    output = one_output(folder, config, written.inputs, written.output, prompt)
    numbers = tuple(round(float(number), 5) for number in output.reshape(-1)[:OUTPUTS])
    return SmokeTest(prompt=tuple(prompt), output=numbers, runtime=runtime(onnxruntime.__version__))


def _spec(config: EncoderConfig, written: _Written) -> EncoderSpec:
    return EncoderSpec(
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        context_length=config.max_len,
        inputs=written.inputs,
        output=written.output,
        output_size=len(config.labels) or config.hidden_size,
        pooling=written.pooling,
        normalize=config.normalize,
        pad_token_id=config.pad_token_id,
        position_offset=config.position_offset,
        labels=config.labels,
        activation="sigmoid" if config.sigmoid else "softmax",
    )


def _memory(config: EncoderConfig, weights: int) -> MemoryNeed:
    tokens = max(BATCH_TOKENS, config.max_len)
    widest = 2 * config.feed_forward_size + 12 * config.hidden_size
    scores = 2 * config.heads * tokens * config.max_len
    activations = 4 * (tokens * widest + scores)
    return MemoryNeed(weights=weights, kv_per_token=0, activations=activations, process=PROCESS)


def encoder_digest(source: Path) -> str:
    """SHA-256 of the list of the files that are read with their SHA-256s, as `sha256sum` prints it."""
    exported = find_exported(source)
    weights = (exported, *read_exported(exported).data) if exported else weight_files(source)
    names = ("config.json", "tokenizer.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json")
    small = [*(source / name for name in names), *source.glob("*_Pooling/config.json")]
    files = sorted({path for path in (*small, *weights) if path.is_file()})
    lines = [f"{file_digest(path)}  {path.relative_to(source)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
