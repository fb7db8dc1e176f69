"""The gRPC server, in the service's event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.gateway.keys import KeyStore
from services.gateway.metrics import Metrics
from services.gateway.open_inference.rpc.calls import Calls, KeyedServices
from services.gateway.open_inference.rpc.open_inference_pb2 import DESCRIPTOR
from services.gateway.open_inference.rpc.service import Service
from services.gateway.refused_logins import RefusedLogins
from shared.contracts.tensor import MAX_TENSOR_BYTES
from shared.errors import Conflict
from shared.service.background import background

_log = structlog.get_logger("llmos.gateway")

SERVICE: str = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_CALLS = 256
"""Calls at once; further ones are RESOURCE_EXHAUSTED."""
_METADATA_BYTES = 16 << 10
_HEALTH_S = 0.5
"""How often the state of the health service follows that of the gateway."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_TENSOR_BYTES),
    ("grpc.max_send_message_length", MAX_TENSOR_BYTES + (1 << 20)),
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),  # finds peers that are gone
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
)


class RpcServer:
    """A server that runs.

    Args:
        server: gRPC's.
        grace: Seconds for calls to end.
        address: Where it listens.
    """

    def __init__(self, server: grpc.aio.Server, grace: float, address: str) -> None:
        self._server = server
        self._grace = grace
        self.address = address
        self._stopping: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Take no new calls, and let those that run end: in the background."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._server.stop(self._grace))

    async def stopped(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        assert self._stopping is not None
        await self._stopping


@asynccontextmanager
async def serving(
    service: Service,
    *,
    host: str,
    port: int,
    keys: KeyStore | None,
    metrics: Metrics,
    refused: RefusedLogins | None = None,
    reasons: Callable[[], tuple[str, ...]],
    grace: float,
) -> AsyncIterator[RpcServer]:
    """Serve while the block runs.

    Args:
        service: The methods.
        host: Address to listen on.
        port: 0 takes a free one.
        keys: The known keys; None admits every call.
        metrics: Counts every call.
        refused: Counts refused logins.
        reasons: Why the gateway can't serve now; empty when it can.
        grace: Seconds for calls to end.

    Raises:
        Conflict: The address can't be listened on.
    """
    calls = Calls(service.methods(), keys, metrics, refused)
    server = grpc.aio.server(options=_OPTIONS, interceptors=(KeyedServices(calls),), maximum_concurrent_rpcs=_CALLS)
    server.add_generic_rpc_handlers((calls,))  # the first that knows a method serves it
    states = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    shown = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError as error:
        raise Conflict(
            f"gRPC cannot listen on {shown}:{port}: stop the program that does, or set LLMOS_GATEWAY_GRPC_PORT (off:"
            " no gRPC)"
        ) from error
    await server.start()
    running = RpcServer(server, grace, f"{shown}:{bound}")
    _log.info("rpc.listening", address=running.address)
    try:
        async with background(_follow(states, reasons), "follow the gateway's health"):
            yield running
    finally:
        await states.enter_graceful_shutdown()
        await running.stopped()


async def _follow(states: health.aio.HealthServicer, reasons: Callable[[], tuple[str, ...]]) -> None:
    serving_status = health_pb2.HealthCheckResponse.ServingStatus
    while True:
        state = serving_status.NOT_SERVING if reasons() else serving_status.SERVING
        for name in ("", SERVICE):
            await states.set(name, state)
        await asyncio.sleep(_HEALTH_S)
