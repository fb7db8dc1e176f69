"""The subjects on which a replica of an encoder listens."""

from services.inference.encoder.runner import EncoderRunner
from services.inference.replica.encode.handler import EncodeHandler
from shared.bus import rpc
from shared.contracts.base import Empty
from shared.contracts.embedding import classify_endpoint, embed_endpoint
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint
from shared.service.context import Context


async def subscribe(context: Context, replica_id: str, handler: EncodeHandler, runner: EncoderRunner) -> None:
    """Listen; active at the server on return.

    The bus ends the subscriptions when it drains: until then a new request gets the error `Draining`.
    """

    async def cancel(request: Cancel) -> Empty:
        handler.cancel(request.request_id)
        return Empty()

    async def drain(_: Empty) -> Empty:
        runner.drain()
        context.stop()
        return Empty()

    bus = context.bus
    await rpc.respond(bus, cancel_endpoint(replica_id), cancel)
    await rpc.respond(bus, drain_endpoint(replica_id), drain)
    await rpc.respond(bus, embed_endpoint(replica_id), handler.embed)
    await rpc.respond(bus, classify_endpoint(replica_id), handler.classify)
