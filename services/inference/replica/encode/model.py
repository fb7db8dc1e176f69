"""Loads an encoder from a version's files."""

from pathlib import Path

from opentelemetry import trace

from services.inference.encoder.tokenizer import EncoderTokenizer
from services.inference.replica.smoke_test import check_encoder
from services.inference.replica.version import TOKENIZER_FILE
from services.inference.runtime.onnx_encoder import OnnxEncoder
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import CorruptFile

_tracer = trace.get_tracer("llmos.replica")


def load_model(
    folder: Path, manifest: Manifest, assignment: ReplicaAssignment, *, threads: int
) -> tuple[OnnxEncoder, EncoderTokenizer]:
    """Load the files in `folder`, compute one text to warm up, and repeat the smoke test of the import.

    Takes seconds; call it off the event loop. Raises `CorruptFile` or what `OnnxEncoder` raises.
    """
    spec = manifest.the_encoder
    if TOKENIZER_FILE not in {file.path for file in manifest.files}:
        raise CorruptFile(f"the version has no {TOKENIZER_FILE}; import the model again")
    tokenizer = EncoderTokenizer.from_file(
        folder / TOKENIZER_FILE, vocab_size=spec.vocab_size, max_len=assignment.options.max_len
    )
    with _tracer.start_as_current_span("load"):
        graph = OnnxEncoder(folder, spec, threads=threads)
    with _tracer.start_as_current_span("warm up"):
        graph.run(tokenizer.ids([[0] * min(8, assignment.options.max_len)]))
    with _tracer.start_as_current_span("smoke test"):
        check_encoder(graph, manifest.smoke_test, max_len=assignment.options.max_len)
    return graph, tokenizer
