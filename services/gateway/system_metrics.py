"""The whole system in `/metrics`: deployments and replicas, every process by the monitor, the bus.

An alert needs one place to look at, so every gateway shows all of it. The monitor and the bus are asked at a scrape,
within `ASK_S`; what they do not answer is left out, and `llmos_monitor_up` and `llmos_bus_connected` say why.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.control_plane import ControlPlane
from shared.bus.port import Bus
from shared.contracts.base import Empty
from shared.contracts.monitor import GET_HEALTH, HealthReport
from shared.contracts.scheduler import DEPLOYMENTS_BUCKET, Deployment, ReplicaStatus
from shared.errors import LlmosError

ASK_S = 1.0
_NO_DEPLOYMENT = "-"
"""No deployment has this name: to ask for it costs the way there and back."""


class Routes(Protocol):
    """What the gateway knows of deployments: a `LiveTable`."""

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """By name."""

    @property
    def replicas(self) -> Mapping[str, ReplicaStatus]:
        """Those whose lease holds, by id."""

    def ready(self, name: str) -> int:
        """Replicas of a deployment that can take a request."""


class SystemMetrics(Collector):
    """The collector; `refresh` before a scrape.

    Args:
        bus: To the monitor; its own round trip is measured.
        routes: Deployments and replicas.
        clock: Seconds, monotonic.
    """

    def __init__(self, bus: Bus, routes: Routes, clock: Callable[[], float] = time.monotonic) -> None:
        self._call = ControlPlane(bus).call
        self._deployments = bus.kv(DEPLOYMENTS_BUCKET)
        self._routes = routes
        self._clock = clock
        self._health: HealthReport | None = None
        self._round_trip: float | None = None

    async def refresh(self) -> None:
        """Ask the monitor and the bus, both at once."""
        self._health, self._round_trip = await asyncio.gather(self._ask_monitor(), self._ask_bus())

    async def _ask_monitor(self) -> HealthReport | None:
        try:
            return await self._call(GET_HEALTH, Empty(), timeout=ASK_S)
        except LlmosError:
            return None

    async def _ask_bus(self) -> float | None:
        begun = self._clock()
        try:
            async with asyncio.timeout(ASK_S):
                await self._deployments.get(_NO_DEPLOYMENT)
        except (LlmosError, TimeoutError):
            return None
        return self._clock() - begun

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self._of_deployments()
        yield from self._of_processes()
        if self._round_trip is not None:
            yield GaugeMetricFamily(
                "llmos_bus_round_trip_seconds", "To the bus's storage and back, at this scrape.", self._round_trip
            )

    def _of_deployments(self) -> Iterator[Metric]:
        desired = GaugeMetricFamily(
            "llmos_deployment_replicas_desired", "Replicas that a deployment should have.", labels=("model",)
        )
        ready = GaugeMetricFamily(
            "llmos_deployment_replicas_ready", "Replicas of a deployment that can take a request.", labels=("model",)
        )
        for name, deployment in sorted(self._routes.deployments.items()):
            desired.add_metric((name,), deployment.replicas)
            ready.add_metric((name,), self._routes.ready(name))
        yield desired
        yield ready
        labels = ("replica", "model")
        restarts = CounterMetricFamily(
            "llmos_replica_restarts", "Times that its node agent started it again.", labels=labels
        )
        memory = GaugeMetricFamily(
            "llmos_replica_resident_memory_bytes", "Of all its processes; 0: not measured yet.", labels=labels
        )
        for replica in self._routes.replicas.values():
            restarts.add_metric((replica.id, replica.deployment), replica.restarts)
            memory.add_metric((replica.id, replica.deployment), replica.memory)
        yield restarts
        yield memory

    def _of_processes(self) -> Iterator[Metric]:
        health = self._health
        yield GaugeMetricFamily("llmos_monitor_up", "1 if the monitor answered.", float(health is not None))
        if health is None:
            return
        labels = ("service", "instance")
        up = GaugeMetricFamily("llmos_process_up", "1 if its heartbeats come.", labels=labels)
        ready = GaugeMetricFamily("llmos_process_ready", "1 if it can serve.", labels=labels)
        memory = GaugeMetricFamily("llmos_process_resident_memory_bytes", "Of the process alone.", labels=labels)
        for one in health.instances:
            names = (one.heartbeat.service, one.heartbeat.instance)
            up.add_metric(names, float(one.up))
            ready.add_metric(names, float(one.up and one.heartbeat.ready))
            if one.heartbeat.memory:
                memory.add_metric(names, float(one.heartbeat.memory))
        yield from (up, ready, memory)
        starts = CounterMetricFamily(
            "llmos_service_starts", "Processes of a service that the monitor has seen since its own start.",
            labels=("service",),
        )  # fmt: skip
        for service, count in sorted(health.starts.items()):
            starts.add_metric((service,), count)
        yield starts
        yield GaugeMetricFamily(
            "llmos_telemetry_pending_messages", "Of telemetry, that the monitor has not read yet.", health.pending
        )
