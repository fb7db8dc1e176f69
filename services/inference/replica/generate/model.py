"""Loads a decoder from a version's files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from opentelemetry import trace

from services.inference.engine.decoder import Decoder, Span
from services.inference.replica.smoke_test import check_decoder
from services.inference.replica.version import TOKENIZER_FILE
from services.inference.runtime.cuda import CudaDevice
from services.inference.runtime.host import HostDevice
from services.inference.runtime.onnx_decoder import OnnxDecoder
from services.inference.runtime.onnx_seq2seq import OnnxSeq2Seq
from shared.contracts.manifest import Manifest, Seq2SeqSpec
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile
from shared.text.special_tokens import special_tokens
from shared.text.tokenizer import Tokenizer

TEMPLATE_FILE = "chat_template.jinja"

_tracer = trace.get_tracer("llmos.replica")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder, ready to compute, and what its prompts need."""

    decoder: Decoder
    tokenizer: Tokenizer
    template: str | None
    """jinja2; None if the version has no chat template."""
    special_tokens: Mapping[str, str]
    """By their names in chat templates."""


def load_model(folder: Path, manifest: Manifest, assignment: ReplicaAssignment, *, threads: int) -> LoadedModel:
    """Load the files in `folder`, compute two tokens to warm up, and repeat the smoke test of the import.

    Takes seconds; call it off the event loop. Raises `NotFound`, `CorruptFile`, `UnsupportedFormat`, or
    `InvalidInput` when the assignment does not fit the model.
    """
    paths = {file.path for file in manifest.files}
    spec = manifest.text_spec
    if TOKENIZER_FILE not in paths:
        raise CorruptFile(f"the version has no {TOKENIZER_FILE}; import the model again")
    tokenizer = Tokenizer.from_file(folder / TOKENIZER_FILE)
    if tokenizer.vocab_size > spec.vocab_size:
        raise CorruptFile(
            f"{TOKENIZER_FILE} has {tokenizer.vocab_size} tokens, but the model knows {spec.vocab_size};"
            " import the model again"
        )
    template = (folder / TEMPLATE_FILE).read_text(encoding="utf-8") if TEMPLATE_FILE in paths else None
    decoder = _open_decoder(folder, manifest, assignment, threads=threads)
    return LoadedModel(
        decoder=decoder,
        tokenizer=tokenizer,
        template=template or None,
        special_tokens=special_tokens(tokenizer, spec),
    )


def _open_decoder(folder: Path, manifest: Manifest, assignment: ReplicaAssignment, *, threads: int) -> Decoder:
    options, spin = assignment.options, assignment.threads_reserved
    if manifest.seq2seq is not None:
        spec = manifest.seq2seq
        with _tracer.start_as_current_span("load"):
            seq2seq = OnnxSeq2Seq(
                folder, spec, slots=options.slots, max_len=options.max_len, threads=threads, spin=spin
            )
        with _tracer.start_as_current_span("warm up"):
            _warm_up(seq2seq, spec)
        return seq2seq
    device = CudaDevice(assignment.resources.gpu_memory) if assignment.device == "cuda" else HostDevice(spin=spin)
    with _tracer.start_as_current_span("load"):
        decoder = OnnxDecoder(
            folder, manifest.the_decoder, slots=options.slots, max_len=options.max_len, threads=threads, device=device
        )
    with _tracer.start_as_current_span("warm up"):
        decoder.compute([Span(0, 0, [0])])
        if decoder.max_len > 1:
            decoder.decode([0], [1])
        decoder.release(0)
    with _tracer.start_as_current_span("smoke test"):
        check_decoder(decoder, manifest.smoke_test)
    return decoder


def _warm_up(decoder: OnnxSeq2Seq, spec: Seq2SeqSpec) -> None:
    source = np.zeros(1, np.int64)
    if spec.speech is not None:
        source = np.zeros((spec.speech.mel_bins, 2 * spec.source_length), np.float32)
    decoder.encode(0, source)
    decoder.compute([Span(0, 0, spec.prefix)])
    decoder.decode([0], [len(spec.prefix)])
    decoder.release(0)
