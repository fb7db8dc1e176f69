"""The subjects on which a replica of a decoder listens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.inference.replica.generate.handler import GenerateHandler
from services.inference.replica.generate.serving import Serving
from services.inference.replica.generate.tokenization import TokenizationHandler
from shared.bus import rpc
from shared.bus.port import Message
from shared.contracts.base import Empty
from shared.contracts.monitor import Heartbeat, health_subject
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint, generate_endpoint
from shared.contracts.tokenization import detokenize_endpoint, tokenize_endpoint, tokenizer_info_endpoint
from shared.service.context import Context


@asynccontextmanager
async def endpoints(
    context: Context,
    replica_id: str,
    handler: GenerateHandler,
    tokenization: TokenizationHandler,
    serving: Serving,
) -> AsyncIterator[None]:
    """Serve the replica's endpoints while inside; a request that comes during the drain is `Draining`."""

    async def cancel(request: Cancel) -> Empty:
        handler.cancel(request.request_id)
        return Empty()

    async def drain(_: Empty) -> Empty:
        serving.draining = True
        context.stop()
        return Empty()

    def heartbeat(message: Message) -> None:
        serving.gateway_heartbeat(rpc.parse(Heartbeat, message.data))

    bus = context.bus
    handlers: rpc.Handlers = {
        cancel_endpoint(replica_id): cancel,
        drain_endpoint(replica_id): drain,
        generate_endpoint(replica_id): handler,
        tokenize_endpoint(replica_id): tokenization.tokenize,
        detokenize_endpoint(replica_id): tokenization.detokenize,
        tokenizer_info_endpoint(replica_id): tokenization.tokenizer_info,
    }
    heartbeats = await bus.subscribe(health_subject("gateway", "*"), heartbeat)
    try:
        async with rpc.serve(bus, handlers):
            yield
    finally:
        await heartbeats.unsubscribe()
