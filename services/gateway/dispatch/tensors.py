"""Has replicas of graphs with named tensors compute, and tells what a deployment takes and returns."""

from collections.abc import Sequence

from opentelemetry import trace

from services.gateway.dispatch.encoders import encode
from services.gateway.dispatch.questions import Questions
from services.gateway.dispatch.requests import EncodeRequest
from services.gateway.dispatch.spans import request_span
from shared.contracts.base import Empty
from shared.contracts.manifest import Task
from shared.contracts.tensor import Described, Infer, Inferred, Tensor, describe_endpoint, infer_endpoint
from shared.telemetry import genai

WORK_BYTES = 64
"""Bytes of tensors that count as one token when replicas are compared."""

Of = tuple[str, int] | None
"""Only replicas of this (model, version). None: any."""


class Tensors(Questions):
    """All that an API dialect needs to ask for tensors."""

    async def infer(
        self,
        model: str,
        inputs: Sequence[Tensor],
        buffers: Sequence[bytes],
        *,
        outputs: Sequence[str],
        tenant: str,
        of: Of,
    ) -> Inferred:
        """The outputs for `inputs`, whose elements are in `buffers`.

        Raises:
            NotFound: There is no such deployment.
            InvalidInput: It does another task, or the replica says what is wrong with the request.
            PayloadTooLarge: Request or answer is larger than the bus carries.
            Overloaded, Unavailable: No replica takes it now, with `retry_after`.
            DeadlineExceeded: The request's time is over.
        """
        command = Infer(
            request_id=self.new_id("infer"),
            inputs=tuple(inputs),
            buffers=tuple(buffers),
            outputs=tuple(outputs),
            tenant=tenant,
        )
        work = 1 + sum(map(len, buffers)) // WORK_BYTES
        request = EncodeRequest(command.request_id, model, "tensor", work, self.deadline(), of)
        with (
            request_span(genai.OPERATION_INFER, model, command.request_id) as span,
            trace.use_span(span, record_exception=False, set_status_on_exception=False),
        ):
            inferred = await encode(self._dispatcher, request, infer_endpoint, command)
            span.set_attribute(genai.DEPLOYMENT, model)
            span.set_attribute(genai.MODEL_VERSION, inferred.version)
            span.set_attribute(genai.ROWS, inferred.rows)
            return inferred

    async def describe(self, model: str, task: Task, of: Of) -> Described:
        """What a deployment takes and returns, as one of its replicas says; raises as `infer`."""
        timeout = self._dispatcher.limits.accept
        return await self.ask_any(model, task, describe_endpoint, Empty(), of=of, timeout=timeout)
