"""The subjects on which a replica of a graph with named tensors listens."""

from contextlib import AbstractAsyncContextManager

from services.inference.replica.infer.handler import InferHandler, TensorRunner
from shared.bus import rpc
from shared.contracts.base import Empty
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint
from shared.contracts.tensor import describe_endpoint, infer_endpoint
from shared.service.context import Context


def endpoints(
    context: Context, replica_id: str, handler: InferHandler, runner: TensorRunner
) -> AbstractAsyncContextManager[None]:
    """Serve the replica's endpoints while inside; a request that comes during the drain is `Draining`."""

    async def cancel(request: Cancel) -> Empty:
        runner.cancel(request.request_id)
        return Empty()

    async def drain(_: Empty) -> Empty:
        runner.drain()
        context.stop()
        return Empty()

    return rpc.serve(
        context.bus,
        {
            cancel_endpoint(replica_id): cancel,
            drain_endpoint(replica_id): drain,
            infer_endpoint(replica_id): handler.infer,
            describe_endpoint(replica_id): handler.describe,
        },
    )
