"""Handles requests to a graph with named tensors."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from services.inference.batching.runner import BatchRunner
from services.inference.tensor.arrays import chosen_outputs, read_inputs, rows_of, write_outputs
from services.inference.tensor.batcher import Outcome, TensorBatch
from services.inference.tensor.request import Computed, TensorRequest
from shared.contracts.base import Empty
from shared.contracts.embedding import EncoderTimings
from shared.contracts.tensor import Described, Infer, Inferred, TensorSpec
from shared.errors import DeadlineExceeded, LlmosError

TensorRunner = BatchRunner[TensorRequest, TensorBatch, Outcome, Computed]


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request that got its tensors or an error."""

    request_id: str
    context: Context
    """The trace that the request belongs to."""
    begun_ns: int
    """Unix time in nanoseconds."""
    rows: int
    timings: EncoderTimings
    error: LlmosError | None = None


class InferHandler:
    """Handles `infer` and `describe`.

    Args:
        runner: Computes.
        spec: The version's.
        version: Its number.
        on_finished: Called with each request at its end.
    """

    def __init__(
        self,
        runner: TensorRunner,
        spec: TensorSpec,
        version: int,
        on_finished: Callable[[FinishedRequest], None],
    ) -> None:
        self._runner = runner
        self._spec = spec
        self._version = version
        self._on_finished = on_finished

    async def describe(self, _: Empty) -> Described:
        """The tensors of the version."""
        return Described(version=self._version, **dict(self._spec))

    async def infer(self, request: Infer) -> Inferred:
        """The outputs for the request's inputs.

        Raises:
            InvalidInput: A tensor is wrong, or the graph does not take it; names the tensor.
            PayloadTooLarge: The outputs are larger than an answer may be.
            Overloaded, Draining, Unavailable: This replica does not accept it now.
            DeadlineExceeded: The deadline passed.
        """
        begun_ns = time.time_ns()
        error: LlmosError | None = None
        rows, timings = 0, EncoderTimings()
        try:
            async with asyncio.timeout(request.time_left_s):
                prepared = await asyncio.to_thread(self._prepared, request)
                rows = prepared.work
                computed = await self._run(prepared)
                timings = EncoderTimings(queue_s=computed.queue_s, compute_s=computed.compute_s)
                tensors, buffers = await asyncio.to_thread(
                    write_outputs, self._spec, computed.outputs, prepared.outputs
                )
                return Inferred(version=self._version, outputs=tensors, buffers=buffers, rows=rows, timings=timings)
        except TimeoutError:
            error = DeadlineExceeded("the request's deadline passed before it was computed")
            raise error from None
        except LlmosError as problem:
            error = problem
            raise
        finally:
            context = otel_context.get_current()
            self._on_finished(FinishedRequest(request.request_id, context, begun_ns, rows, timings, error))

    def _prepared(self, request: Infer) -> TensorRequest:
        outputs = chosen_outputs(self._spec, request.outputs)
        inputs = read_inputs(self._spec, request)
        return TensorRequest(request.request_id, inputs, outputs, rows_of(self._spec, inputs), request.tenant)

    async def _run(self, request: TensorRequest) -> Computed:
        future: Future[Computed] = self._runner.submit(request)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._runner.cancel(request.id)
            raise
