"""The subjects on which a replica of a decoder listens."""

from services.inference.replica.generate.handler import GenerateHandler
from services.inference.replica.generate.serving import Serving
from shared.bus import rpc
from shared.bus.port import Message
from shared.contracts.base import Empty
from shared.contracts.gateway import FinishReason
from shared.contracts.monitor import HealthBeat, health_subject
from shared.contracts.replica import Cancel, cancel_endpoint, drain_endpoint, generate_endpoint
from shared.service.context import Context


async def subscribe(context: Context, replica_id: str, handler: GenerateHandler, serving: Serving) -> None:
    """Listen; active at the server on return.

    The bus ends the subscriptions when it drains: until then a new request gets the error `Draining`.
    """

    async def cancel(request: Cancel) -> Empty:
        serving.abort([request.request_id], FinishReason.CANCELLED)
        return Empty()

    async def drain(_: Empty) -> Empty:
        serving.draining = True
        context.stop()
        return Empty()

    def heartbeat(message: Message) -> None:
        serving.gateway_heartbeat(rpc.parse(HealthBeat, message.data))

    bus = context.bus
    await bus.subscribe(health_subject("gateway", "*"), heartbeat)
    await rpc.respond(bus, cancel_endpoint(replica_id), cancel)
    await rpc.respond(bus, drain_endpoint(replica_id), drain)
    await rpc.respond(bus, generate_endpoint(replica_id), handler)
