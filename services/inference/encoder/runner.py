"""The thread that computes an encoder's batches."""

import time
from collections.abc import Callable

from services.inference.batching.runner import BatchRunner
from services.inference.encoder.batcher import Batch, EncoderBatcher
from services.inference.encoder.graph import EncoderGraph
from services.inference.encoder.limits import EncoderLimits
from services.inference.encoder.request import Encoded, EncodeRequest, Vector
from services.inference.engine.engine import end_process


class EncoderRunner(BatchRunner[EncodeRequest, Batch, Vector, Encoded]):
    """Runs texts on an encoder.

    Args:
        graph: Owned by the runner from now on: used on its thread only, closed by `close`.
        limits: Bounds of a batch and of the queue.
        max_len: Tokens that a text may have.
        slots: As of `BatchRunner`, like the rest.
    """

    def __init__(
        self,
        graph: EncoderGraph,
        limits: EncoderLimits,
        *,
        max_len: int,
        slots: int = 1,
        on_fatal: Callable[[BaseException], None] = end_process,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            EncoderBatcher(limits, max_len=max_len),
            lambda batch: list(graph.run(batch.rows)),
            graph.close,
            max_len=max_len,
            slots=slots,
            on_fatal=on_fatal,
            clock=clock,
        )
