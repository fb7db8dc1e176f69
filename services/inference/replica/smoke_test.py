"""Repeats the smoke test of a version's import: a replica that computes something else never becomes ready.

Digests show that the files are those of the import. This shows that the node computes with them what the import
computed: memory, processor, operators and ONNX Runtime take part. Versions without a record are not tested.
"""

import numpy as np
import structlog

from services.inference.encoder.request import TokenRow
from services.inference.engine.decoder import Decoder, Span
from services.inference.runtime.onnx_encoder import OnnxEncoder
from services.inference.runtime.onnx_tensors import OnnxTensors
from services.inference.runtime.session import VERSION
from shared.contracts.smoke_test import SmokeTest
from shared.contracts.tensor import TensorSpec
from shared.errors import CorruptFile
from shared.sample_tensors import first_numbers, sample_inputs
from shared.smoke_test import runtime, wrong_answer, wrong_output

_log = structlog.get_logger("llmos.replica")


def check_decoder(decoder: Decoder, test: SmokeTest | None) -> None:
    """Compute the recorded answer in slot 0, which is released. Raises `CorruptFile`.

    Tokens must be the same where the decoder is batch-invariant (docs/adr/0014) and the import was computed by the
    same ONNX Runtime: LLMOS's operators give the same bits on each instruction set (docs/adr/0016). Elsewhere (a GPU,
    another ONNX Runtime) the answer must be about as likely as it was.
    """
    count = 0 if test is None else min(len(test.answer), decoder.max_len - len(test.prompt))
    if test is None or count < 1:
        _log.info("smoke_test.skipped", reason="no record" if test is None else "max_len is below the prompt")
        return
    exact = decoder.batch_invariant and test.exact and test.runtime == runtime(VERSION)
    tokens = [*test.prompt, *test.answer[: count - 1]]
    problem = wrong_answer(test, decoder.compute([Span(0, 0, tokens, logits=count)]), exact=exact)
    decoder.release(0)
    _conclude(problem, exact=exact)


def check_encoder(encoder: OnnxEncoder, test: SmokeTest | None, *, max_len: int) -> None:
    """Compute the recorded output. Raises `CorruptFile`."""
    if test is None or not test.output or len(test.prompt) > max_len:
        _log.info("smoke_test.skipped", reason="no record" if test is None else "max_len is below the prompt")
        return
    _conclude(wrong_output(test, encoder.states([TokenRow(np.array(test.prompt, np.int64))])), exact=False)


def check_tensors(graph: OnnxTensors, spec: TensorSpec, test: SmokeTest | None) -> None:
    """Compute the recorded outputs. Raises `CorruptFile`."""
    if test is None or not test.output:
        _log.info("smoke_test.skipped", reason="no record")
        return
    names = [put.name for put in spec.outputs]
    found = first_numbers(graph.run(sample_inputs(spec, test.prompt[0], rows=1), names), names)
    _conclude(wrong_output(test, np.array(found, np.float32)), exact=False)


def _conclude(problem: str, *, exact: bool) -> None:
    if problem:
        _log.error("smoke_test.failed", problem=problem, exact=exact)
        raise CorruptFile(
            f"{problem}: this node computes wrongly with files that are right, so the replica does not become ready;"
            " deploy on another node, or import the model again after ONNX Runtime was replaced"
        )
    _log.info("smoke_test.passed", exact=exact)
