"""Converts a GGUF into the files of a version and their manifest."""

import errno
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from devtools.convert.architecture import Architecture
from devtools.convert.check import check_graph
from devtools.convert.gguf_architecture import read_architecture
from devtools.convert.gguf_file import GgufFile, read_gguf
from devtools.convert.gguf_source import GgufSource
from devtools.convert.graph import GraphBuilder
from devtools.convert.memory_need import memory_need
from devtools.convert.quants import check_supported
from devtools.convert.tensors import check_tensors
from devtools.convert.tokenizer import begins_with_bos, bos_token_id, build_tokenizer, end_token_ids
from devtools.convert.weight_file import WeightFile
from shared.contracts.manifest import DecoderSpec, Lineage, Manifest, ManifestFile
from shared.errors import CorruptFile, StorageFull, UnsupportedFormat

Progress = Callable[[str, float], None]
"""Called with a stage (`read`, `build`, `check`, `finish`) and the fraction of it that is done, 0 to 1."""

TOOL = "devtools.convert"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
}
"""GGUF key -> name of the manifest's default."""

log = structlog.get_logger("llmos.convert")


def _unwatched(stage: str, fraction: float) -> None:
    """Nobody watches the progress."""


def convert_gguf(source: Path, destination: Path, *, progress: Progress = _unwatched) -> Manifest:
    """Write `model.onnx`, `model.onnx.data`, `tokenizer.json` and, if the file has one, `chat_template.jinja`.

    No weight is rounded. The files are built beside `destination`, checked against a numpy forward pass, and moved
    into it at the end: on any failure `destination` is as it was.

    Args:
        source: A GGUF of the Llama architecture.
        destination: The folder for the files; made if need be.
        progress: Told of every stage.

    Raises:
        CorruptFile: `source` is damaged or truncated.
        UnsupportedFormat: a kind of file, architecture, tensor or tokenizer that LLMOS cannot convert.
        StorageFull: no room for the files.
    """
    progress("read", 0.0)
    gguf = read_gguf(source)
    arch = read_architecture(gguf)
    for tensor in gguf.tensors.values():
        check_supported(tensor)
    weights_source = GgufSource(gguf)
    check_tensors(weights_source, arch)
    tokenizer = build_tokenizer(gguf.metadata)
    if tokenizer.get_vocab_size() > arch.vocab_size:
        raise CorruptFile(
            f"the tokenizer has {tokenizer.get_vocab_size():,} tokens, the embedding {arch.vocab_size:,}",
            param="source",
        )
    spec = _decoder_spec(gguf, arch)
    progress("read", 1.0)
    with _staged(destination) as folder:
        with WeightFile(folder / "model.onnx.data") as weights:
            builder = GraphBuilder(arch, weights_source, weights)
            model = builder.build(lambda layer: progress("build", (layer + 1) / arch.layers))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        template = gguf.metadata.get("tokenizer.chat_template")
        if isinstance(template, str):
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        progress("check", 0.0)
        license_name = gguf.metadata.get("general.license")
        metrics = check_graph(folder, arch, weights_source)
        progress("check", 1.0)
        files = tuple(_describe(path) for path in sorted(folder.iterdir()))
        progress("finish", 0.5)
        manifest = Manifest(
            files=files,
            decoder=spec,
            memory=memory_need(arch, mapped_bytes=builder.mapped_bytes, packed_bytes=builder.packed_bytes),
            defaults=_sampling_defaults(gguf),
            lineage=Lineage(
                source=source.name,
                source_digest=_digest(source),
                tool=TOOL,
                quantization=_quantization(gguf),
                license=license_name if isinstance(license_name, str) else None,
            ),
            metrics=metrics,
        )
    progress("finish", 1.0)
    log.info(
        "converted", source=source.name, quantization=manifest.lineage.quantization, bytes=manifest.size, **metrics
    )
    return manifest


@contextmanager
def _staged(destination: Path) -> Iterator[Path]:
    """A folder beside `destination` whose files move into it at the end, or vanish with the first error."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.partial-") as staging:
            yield Path(staging)
            destination.mkdir(exist_ok=True)
            for path in Path(staging).iterdir():
                path.replace(destination / path.name)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise StorageFull(
            f"no room for the converted model in {destination.parent} ({os.strerror(error.errno)}):"
            " free some space, or choose another folder"
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(path: Path) -> ManifestFile:
    return ManifestFile(path=path.name, digest=_digest(path), size=path.stat().st_size)


def _quantization(gguf: GgufFile) -> str:
    """The tensor type that most of the layers' weights have."""
    weights: Counter[str] = Counter()
    for name, tensor in gguf.tensors.items():
        if name.startswith("blk."):
            weights[tensor.type.name] += tensor.raw.size
    return weights.most_common(1)[0][0]


def _sampling_defaults(gguf: GgufFile) -> dict[str, float | int | str]:
    recommended = {name: gguf.metadata.get(key) for key, name in _SAMPLING.items()}
    return {name: value for name, value in recommended.items() if isinstance(value, float | int)}


def _decoder_spec(gguf: GgufFile, arch: Architecture) -> DecoderSpec:
    ends = end_token_ids(gguf.metadata)
    if not ends:
        raise UnsupportedFormat("the file names no end token ('tokenizer.ggml.eos_token_id')", param="source")
    bos = bos_token_id(gguf.metadata)
    return DecoderSpec(
        layers=arch.layers,
        heads=arch.heads,
        kv_heads=arch.kv_heads,
        head_dim=arch.head_dim,
        hidden_size=arch.hidden_size,
        vocab_size=arch.vocab_size,
        context_length=arch.context_length,
        bos_token_id=bos,
        add_bos_token=bos is not None and begins_with_bos(gguf.metadata),
        eos_token_ids=ends,
    )
