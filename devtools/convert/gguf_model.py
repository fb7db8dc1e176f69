"""Converts a GGUF into the files of a version and their manifest."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx

from devtools.convert.architecture import Architecture, read_architecture
from devtools.convert.gguf_file import GgufFile, read_gguf
from devtools.convert.graph import GraphBuilder
from devtools.convert.tokenizer import build_tokenizer
from devtools.convert.weight_file import WeightFile
from shared.contracts.manifest import DecoderSpec, Lineage, Manifest, ManifestFile, MemoryNeed

Progress = Callable[[str, float], None]
_FILES = ("model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja")


def _silent(stage: str, fraction: float) -> None:
    """Nobody watches."""


def convert_gguf(source: Path, destination: Path, *, progress: Progress = _silent) -> Manifest:
    gguf = read_gguf(source)
    arch = read_architecture(gguf)
    destination.mkdir(parents=True, exist_ok=True)
    with WeightFile(destination / "model.onnx.data") as weights:
        model = GraphBuilder(arch, gguf.tensors, weights).build(
            lambda layer: progress("build", (layer + 1) / arch.layers)
        )
    onnx.save(model, destination / "model.onnx")
    build_tokenizer(gguf.metadata).save(str(destination / "tokenizer.json"), pretty=False)
    (destination / "chat_template.jinja").write_text(gguf.metadata.get("tokenizer.chat_template", ""))
    files = tuple(_describe(destination / name) for name in _FILES)
    size = sum(file.size for file in files)
    spec = _spec(gguf, arch)
    return Manifest(
        files=files,
        decoder=spec,
        memory=MemoryNeed(weights=2 * size, kv_per_token=spec.kv_bytes_per_token, activations=250_000_000),
        lineage=Lineage(
            source=source.name,
            source_digest=_digest(source),
            tool="devtools.convert",
            quantization="Q4_1",
            license=gguf.metadata.get("general.license"),
        ),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(path: Path) -> ManifestFile:
    return ManifestFile(path=path.name, digest=_digest(path), size=path.stat().st_size)


def _spec(gguf: GgufFile, arch: Architecture) -> DecoderSpec:
    metadata = gguf.metadata
    return DecoderSpec(
        layers=arch.layers,
        heads=arch.heads,
        kv_heads=arch.kv_heads,
        head_dim=arch.head_dim,
        hidden_size=arch.hidden_size,
        vocab_size=arch.vocab_size,
        context_length=arch.context_length,
        bos_token_id=metadata.get("tokenizer.ggml.bos_token_id"),
        add_bos_token=metadata.get("tokenizer.ggml.add_bos_token", False),
        eos_token_ids=(metadata["tokenizer.ggml.eos_token_id"],),
    )
