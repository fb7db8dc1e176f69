"""Writes the files of a decoder's version from whatever its source was, and their manifest."""

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import structlog

from devtools.convert.decoder.architecture import Architecture
from devtools.convert.decoder.graph import KV_TYPE, GraphBuilder
from devtools.convert.decoder.tensors import check_tensors
from devtools.convert.graph.weight_file import WeightFile
from devtools.convert.memory_need import memory_need
from devtools.convert.model_text import ModelText
from devtools.convert.source import WeightSource
from devtools.convert.verify.check import check_graph
from devtools.convert.verify.smoke_test import record_answer
from shared.contracts.manifest import DecoderSpec, Lineage, Manifest, ManifestFile
from shared.errors import StorageFull
from shared.storage.digest import file_digest
from shared.storage.scratch import scratch_folder

Progress = Callable[[str, float], None]
"""Called with a stage (`read`, `build`, `check`, `finish`, …) and the fraction of it that is done, 0 to 1."""

TOOL = "devtools.convert"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_log = structlog.get_logger("llmos.convert")


def no_progress(stage: str, fraction: float) -> None:
    """A `Progress` that does nothing."""


@dataclass(frozen=True, slots=True)
class DecoderModel:
    """Everything that a version is made of.

    Attributes:
        source: Where it came from, for people: a file's or a folder's name.
        digest: SHA-256 of the source.
        architecture: Of the decoder.
        weights: In the form in which they are to be served.
        text: Tokenizer, template and special tokens.
        license: As the source states it.
        defaults: Sampling parameters.
    """

    source: str
    digest: str
    architecture: Architecture
    weights: WeightSource
    text: ModelText
    license: str | None = None
    defaults: Mapping[str, float | int | str] = field(default_factory=dict)

    def check(self) -> None:
        """Check that the parts belong together; raises CorruptFile or UnsupportedFormat."""
        check_tensors(self.weights, self.architecture)
        self.text.check(self.architecture.vocab_size)


def write_version(
    model: DecoderModel,
    destination: Path,
    *,
    progress: Progress = no_progress,
    judge: Callable[[Path], Mapping[str, float]] | None = None,
) -> Manifest:
    """Write `model.onnx`, `model.onnx.data`, `tokenizer.json` and, if there is one, `chat_template.jinja`.

    The files are built beside `destination`, checked against a numpy forward pass, and moved into it at the end: on
    any failure `destination` is as it was.

    Args:
        model: Checked parts.
        destination: The folder for the files; made if need be.
        progress: Called with the stages `build`, `check` and `finish`.
        judge: Given the folder of the built and checked files; returns further metrics, or raises to stop.

    Raises:
        UnsupportedFormat: the graph does not compute what the weights say.
        StorageFull: no room for the files.
    """
    arch = model.architecture
    with staged(destination) as folder:
        with WeightFile(folder / "model.onnx.data") as weights:
            builder = GraphBuilder(arch, model.weights, weights)
            graph = builder.build(lambda done: progress("build", done))
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        (folder / "tokenizer.json").write_text(model.text.tokenizer.to_str(), encoding="utf-8")
        if model.text.chat_template is not None:
            (folder / "chat_template.jinja").write_text(model.text.chat_template, encoding="utf-8")
        first = model.text.bos_token_id if model.text.add_bos_token else None
        metrics = check_graph(
            folder, arch, model.weights, first=first, on_progress=lambda done: progress("check", done)
        )
        if judge is not None:
            metrics |= judge(folder)
        smoke_test = record_answer(folder, arch, model.text)
        files = _described(folder, progress)
        manifest = Manifest(
            files=files,
            decoder=decoder_spec(model),
            memory=memory_need(arch, mapped_bytes=builder.mapped_bytes, packed_bytes=builder.packed_bytes),
            defaults=dict(model.defaults),
            lineage=Lineage(
                source=model.source,
                source_digest=model.digest,
                tool=TOOL,
                quantization=quantization(model.weights),
                license=model.license,
            ),
            metrics=metrics,
            smoke_test=smoke_test,
        )
    progress("finish", 1.0)
    _log.info(
        "decoder.converted",
        source=model.source,
        quantization=manifest.lineage.quantization,
        bytes=manifest.size,
        **metrics,
    )
    return manifest


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A folder beside `destination` whose files move into it at the end, or vanish with the first error."""
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(destination.parent, f".{destination.name}.partial-") as staging:
            yield staging
            destination.mkdir(exist_ok=True)
            for path in staging.iterdir():
                path.replace(destination / path.name)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise StorageFull(
            f"no room for the converted model in {destination.parent} ({os.strerror(error.errno)}):"
            " free some space, or choose another folder"
        ) from error


def files_digest(files: Iterable[Path], progress: Progress = no_progress) -> str:
    """SHA-256 of the list of `files` with their SHA-256s, as `sha256sum` prints it."""
    ordered = sorted(files)
    total, done, lines = sum(path.stat().st_size for path in ordered), 0, []
    for path in ordered:
        before = done

        def on_read(count: int, before: int = before) -> None:
            progress("read", 0.99 * (before + count) / max(total, 1))

        lines.append(f"{file_digest(path, on_read)}  {path.name}\n")
        done += path.stat().st_size
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _described(folder: Path, progress: Progress) -> tuple[ManifestFile, ...]:
    paths = sorted(folder.iterdir())
    total, done, files = sum(path.stat().st_size for path in paths), 0, []
    for path in paths:
        before = done

        def on_read(count: int, before: int = before) -> None:
            progress("finish", 0.99 * (before + count) / total)

        digest = file_digest(path, on_read)
        files.append(ManifestFile(path=path.name, digest=digest, size=path.stat().st_size))
        done += files[-1].size
    return tuple(files)


def quantization(weights: WeightSource) -> str:
    """The type that most of the layers' weights have."""
    counts: Counter[str] = Counter()
    for name in weights.names():
        if name.startswith("blk."):
            counts[weights.type_name(name)] += prod(weights.shape(name))
    return counts.most_common(1)[0][0]


def describe_file(path: Path) -> ManifestFile:
    """A file of a version, as its manifest lists it."""
    return ManifestFile(path=path.name, digest=file_digest(path), size=path.stat().st_size)


def decoder_spec(model: DecoderModel) -> DecoderSpec:
    """What the engine must know about the version of `model`."""
    arch, text = model.architecture, model.text
    return DecoderSpec(
        layers=arch.layers,
        heads=arch.heads,
        kv_heads=arch.kv_heads,
        head_dim=arch.head_dim,
        hidden_size=arch.hidden_size,
        vocab_size=arch.vocab_size,
        context_length=arch.context_length,
        bos_token_id=text.bos_token_id,
        add_bos_token=text.add_bos_token,
        eos_token_ids=text.eos_token_ids,
        special_tokens=dict(text.special_tokens),
        kv_type=KV_TYPE,
    )
