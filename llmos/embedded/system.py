"""Starts, watches and stops the children of an embedded system."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from llmos.embedded import nats
from llmos.embedded.bus_watch import BusWatch
from llmos.embedded.logs import remove_old_logs
from llmos.embedded.ports import choose
from llmos.embedded.readiness import Readiness
from llmos.embedded.state import hold, prepare_home
from llmos.home import Home, Ports, SystemState
from services.monitor.alerts.rule_file import read_alerts_file
from shared.bus.access.roles import Role
from shared.bus.connect import connect
from shared.deadlines import LAUNCHER_READY_S, LAUNCHER_STOP_AGENT_S, LAUNCHER_STOP_S
from shared.disk import Disk
from shared.errors import Unavailable
from shared.service import child_log
from shared.service.background import background
from shared.service.process_identity import ProcessIdentity
from shared.service.python import python_module
from shared.service.supervise import Child, ChildSpec

SERVICES = ("registry", "scheduler", "monitor", "inference", "gateway")
"""In the order in which they start; they stop in reverse."""


class EmbeddedSystem:
    """nats-server and the five services, each a supervised child that is started again when it dies."""

    def __init__(self, home: Home, ports: Ports, *, store_url: str | None, note: Callable[[str], None]) -> None:
        self.home = home
        self.ports = ports
        self.url = f"http://127.0.0.1:{ports.http}"
        self.grpc_port = os.environ.get("LLMOS_GATEWAY_GRPC_PORT", str(ports.grpc))
        """As the gateway's setting has it."""
        self._store_url = store_url or home.store.as_uri()
        self._note = note
        self._passwords = home.bus_passwords(nats.USERS)
        self._disk = Disk(home.root)
        self._watching = AsyncExitStack()
        self.children: dict[str, Child] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["EmbeddedSystem"]:
        """Run all children while inside, from the moment when the gateway can serve and every service is healthy."""
        try:
            await self._start()
            yield self
        finally:
            await self._stop()

    async def _start(self) -> None:
        self.home.ensure_admin_key()
        await self._start_child(nats.child(self.home, self.ports.nats))
        server = self.children["nats-server"]
        await nats.until_listening(server, self.ports.nats, self.home.logs / "nats-server.log")
        await prepare_home(self.home, self.bus_url(Role.OWNER), self._store_url, self._note)
        bus_watch = BusWatch(server, self.bus_url(Role.OWNER), self._disk)
        await self._watching.enter_async_context(bus_watch.running())
        for service in SERVICES:
            await self._start_child(self._service(service))
        await self._until_ready()
        self.announce(ready=False)

    def bus_url(self, role: Role) -> str:
        """The bus, with the password of a user."""
        return nats.user_url(self.ports.nats, role, self._passwords[role])

    def announce(self, *, ready: bool) -> None:
        """Write for other commands where the system is, and whether its start is complete."""
        nats_url = f"nats://127.0.0.1:{self.ports.nats}"
        this = ProcessIdentity.own()
        self.home.write_system(
            SystemState(pid=this.pid, birth=this.birth, url=self.url, nats_url=nats_url, ready=ready)
        )

    async def _stop(self) -> None:
        """Drain the services, then stop the bus. Children that do not end are killed."""
        self.home.clear_system()
        await self._watching.aclose()
        # The gateway first, so that its answers can end; then all others, which no longer get requests.
        for names in (("gateway",), ("inference",), ("scheduler", "registry", "monitor"), ("nats-server",)):
            await asyncio.gather(*(self.children[name].stop() for name in names if name in self.children))

    async def _start_child(self, spec: ChildSpec) -> None:
        child = self.children[spec.name] = Child(spec)
        await child.start()

    def _service(self, service: str) -> ChildSpec:
        return ChildSpec(
            name=service,
            argv=python_module(f"services.{service}"),
            env={
                "LLMOS_NATS_URL": self.bus_url(Role(service)),
                "LLMOS_INFERENCE_REPLICA_NATS_URL": self.bus_url(Role.REPLICA),
                "LLMOS_STORE_URL": self._store_url,
                "LLMOS_DISK_FOLDER": str(self.home.root),
                "LLMOS_LOG_DIR": str(self.home.logs),
                "LLMOS_CACHE_DIR": str(self.home.cache),
                "LLMOS_MONITOR_DIR": str(self.home.monitor),
                **self._alerts(),
                "LLMOS_INFERENCE_JOB_DIR": str(self.home.jobs),
                "LLMOS_JOB_GATEWAY_URL": self.url,
                "LLMOS_JOB_API_KEY_FILE": str(self.home.key_file),
                "LLMOS_INFERENCE_NODE_ID": os.environ.get("LLMOS_INFERENCE_NODE_ID", "local"),
                "LLMOS_GATEWAY_HOST": "127.0.0.1",
                "LLMOS_GATEWAY_PORT": str(self.ports.http),
                "LLMOS_GATEWAY_GRPC_PORT": self.grpc_port,
                "LLMOS_GATEWAY_ADMIN_KEY_FILE": str(self.home.key_file),
            },
            log=self.home.logs / f"{service}.log",
            stop_timeout=LAUNCHER_STOP_AGENT_S if service == "inference" else LAUNCHER_STOP_S,
        )

    def _alerts(self) -> dict[str, str]:
        file = self.home.alerts_file
        if not file.exists():
            return {}
        read_alerts_file(file)  # here, so that the person who starts the system reads what is wrong
        return {"LLMOS_MONITOR_ALERTS": str(file)}

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + LAUNCHER_READY_S
        # The gateway's user may ask the monitor.
        bus = await connect(self.bus_url(Role.GATEWAY), name="launcher")
        readiness = Readiness(bus, self.url, SERVICES)
        try:
            while missing := await readiness.missing():
                for name, child in self.children.items():
                    nats.fail_when_dying(child, self.home.logs / f"{name}.log")
                if time.monotonic() > deadline:
                    raise Unavailable(f"not ready within {LAUNCHER_READY_S:.0f} s: {missing}; see {self.home.logs}")
                await asyncio.sleep(0.1)
        finally:
            await bus.drain()


@asynccontextmanager
async def running(
    home: Home,
    *,
    port: int | None,
    store_url: str | None,
    on_start: Callable[[Ports], None],
    note: Callable[[str], None],
) -> AsyncIterator[EmbeddedSystem]:
    """The embedded system of `home`, stopped again on the way out. One per home: a second one is a `Conflict`.

    Args:
        home: Its folder.
        port: HTTP port; None: the last one, or a free one.
        store_url: The artifact store; None: that of the home.
        on_start: Called with the ports.
        note: Shows a person what the start did besides, such as a migration.

    Raises:
        Conflict: One runs, or home, bus and store do not belong to one system.
        Unavailable: Control state is lost, or something does not start.
        UnsupportedFormat: A newer LLMOS wrote the home.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(hold(home))
        home.record()
        ports = choose(home, port)
        on_start(ports)
        remove_old_logs(home.logs)
        system = EmbeddedSystem(home, ports, store_url=store_url, note=note)
        # The children's logs are rotated by their supervision.
        rotation = child_log.rotate_above(home.logs / "launcher.log")
        await stack.enter_async_context(background(rotation, "rotate the launcher's log"))
        yield await stack.enter_async_context(system.running())
