"""The subjects on which a replica of an encoder listens."""

from contextlib import AbstractAsyncContextManager

from services.inference.encoder.runner import EncoderRunner
from services.inference.replica.encode.handler import EncodeHandler
from services.inference.replica.encode.tokenization import TokenizationHandler
from shared.bus import rpc
from shared.contracts.base import Empty
from shared.contracts.embedding import classify_endpoint, embed_endpoint
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint
from shared.contracts.tensor import describe_endpoint
from shared.contracts.tokenization import detokenize_endpoint, tokenize_endpoint, tokenizer_info_endpoint
from shared.service.context import Context


def endpoints(
    context: Context,
    replica_id: str,
    handler: EncodeHandler,
    tokenization: TokenizationHandler,
    runner: EncoderRunner,
) -> AbstractAsyncContextManager[None]:
    """Serve the replica's endpoints while inside; a request that comes during the drain is `Draining`."""

    async def cancel(request: Cancel) -> Empty:
        handler.cancel(request.request_id)
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
            embed_endpoint(replica_id): handler.embed,
            classify_endpoint(replica_id): handler.classify,
            describe_endpoint(replica_id): handler.describe,
            tokenize_endpoint(replica_id): tokenization.tokenize,
            detokenize_endpoint(replica_id): tokenization.detokenize,
            tokenizer_info_endpoint(replica_id): tokenization.tokenizer_info,
        },
    )
