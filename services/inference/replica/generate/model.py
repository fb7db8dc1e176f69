"""Loads a decoder from a version's files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.inference.engine.decoder import Span
from services.inference.replica.smoke_test import check_decoder
from services.inference.replica.version import TOKENIZER_FILE
from services.inference.runtime.cuda import CudaDevice
from services.inference.runtime.host import HostDevice
from services.inference.runtime.onnx_decoder import OnnxDecoder
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile
from shared.text.special_tokens import special_tokens
from shared.text.tokenizer import Tokenizer

TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A decoder, ready to compute, and what its prompts need."""

    decoder: OnnxDecoder
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
    spec = manifest.the_decoder
    if TOKENIZER_FILE not in paths:
        raise CorruptFile(f"the version has no {TOKENIZER_FILE}; import the model again")
    tokenizer = Tokenizer.from_file(folder / TOKENIZER_FILE)
    if tokenizer.vocab_size > spec.vocab_size:
        raise CorruptFile(
            f"{TOKENIZER_FILE} has {tokenizer.vocab_size} tokens, but the model knows {spec.vocab_size};"
            " import the model again"
        )
    template = (folder / TEMPLATE_FILE).read_text(encoding="utf-8") if TEMPLATE_FILE in paths else None
    on_gpu = assignment.device == "cuda"
    device = CudaDevice(assignment.resources.gpu_memory) if on_gpu else HostDevice(spin=assignment.threads_reserved)
    options = assignment.options
    decoder = OnnxDecoder(folder, spec, slots=options.slots, max_len=options.max_len, threads=threads, device=device)
    _warm_up(decoder)
    check_decoder(decoder, manifest.smoke_test)
    return LoadedModel(
        decoder=decoder,
        tokenizer=tokenizer,
        template=template or None,
        special_tokens=special_tokens(tokenizer, spec),
    )


def _warm_up(decoder: OnnxDecoder) -> None:
    decoder.compute([Span(0, 0, [0])])
    if decoder.max_len > 1:
        decoder.decode([0], [1])
    decoder.release(0)
