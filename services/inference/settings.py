"""What the node agent reads from its environment."""

import os
import re
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import AfterValidator, Field, SecretStr

from shared.contracts.manifest import Name
from shared.contracts.resources import Resources
from shared.deadlines import AGENT_CLEAN_UP_S, AGENT_DRAIN_S, REPLICA_DRAIN_S
from shared.errors import InvalidInput
from shared.service.interfaces import interface_of
from shared.service.python import python_module
from shared.service.settings import ServiceSettings

MEMORY_SHARE = 0.8
"""Share of the memory that is available at the start; the rest is for the system and other programs."""

CGROUP = Path("/sys/fs/cgroup")
_MEMORY_FILES = (
    ("", "memory.max", "memory.current"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Folder, limit and usage in version 2 of control groups, and in version 1."""


def host_node_id() -> str:
    """The host's name in the form of a node id."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".", maxsplit=1)[0].lower())[:64].strip("-")
    return name or "node"


def available_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that replicas may use by default: most of the memory that the machine or its container has left.

    Args:
        cgroup: Of this process: it has the limit of a container.
    """
    available = psutil.virtual_memory().available
    for folder, limit_file, usage_file in _MEMORY_FILES:
        with suppress(OSError, ValueError):  # there is no such limit
            limit = int((cgroup / folder / limit_file).read_text())
            counts = dict(line.split() for line in (cgroup / folder / "memory.stat").read_text().splitlines())
            files = int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))  # can be freed
            used = int((cgroup / folder / usage_file).read_text()) - files
            available = min(available, max(0, limit - used))
    return int(available * MEMORY_SHARE)


def usable_threads(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may run on, and no more than its container's share of time.

    Args:
        cgroup: Of this process: it has the limit of a container.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # version 2; "max" is no number
        quota, period = map(int, (cgroup / "cpu.max").read_text().split())
        threads = min(threads, max(1, quota // period))
    with suppress(OSError, ValueError):
        quota = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
        threads = min(threads, max(1, quota // period)) if quota > 0 else threads
    return threads


def whole_machine() -> Resources:
    """All that this machine has, whatever a container of it may use."""
    return Resources(memory=psutil.virtual_memory().total, threads=os.cpu_count() or 1)


def _own_address(address: str) -> str:
    try:
        interface_of(address)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return address


class Settings(ServiceSettings):
    """A node agent's settings."""

    node_id: Name = Field(default_factory=host_node_id, validation_alias="LLMOS_INFERENCE_NODE_ID")
    """Name of this node, unique in the system; `LLMOS_INFERENCE_MACHINE_DIR` keeps one. Default: the host's name."""
    machine_dir: Path | None = Field(default=None, validation_alias="LLMOS_INFERENCE_MACHINE_DIR")
    """Folder that all nodes of a machine share, such as containers: each keeps its id there, and one that would offer
    more than the others leave of the machine's memory and CPUs is refused. Default: none."""
    memory: int = Field(default_factory=available_memory, ge=0, validation_alias="LLMOS_INFERENCE_MEMORY")
    """Bytes that all replicas together may use. Default: 80 % of what is available at the start."""
    threads: int = Field(default_factory=usable_threads, ge=1, validation_alias="LLMOS_INFERENCE_THREADS")
    """CPU threads that all replicas together may use. Default: the CPUs of this process."""
    store_url: str
    """Where model files are kept: `file:///a/folder` or `s3://bucket?endpoint=http://host:9000`."""
    cache_dir: Path
    """The node's cache of model files; its replicas share it."""
    cache_limit: int | None = Field(default=None, gt=0)
    """Bytes of blobs that the cache may hold. A store in a folder needs no cache. Default: no limit."""
    scrub_rate: int = Field(default=8 << 20, ge=0, validation_alias="LLMOS_SCRUB_RATE")
    """Bytes a second that the background check (scrub) of the cache reads; 0 switches it off."""
    scrub_interval: float = Field(default=86_400.0, gt=0, validation_alias="LLMOS_SCRUB_INTERVAL")
    """Seconds from the beginning of one scrub to the beginning of the next, if it has ended by then."""
    s3_access_key: str | None = None
    """Access key of an S3 store; not needed for a folder."""
    s3_secret_key: SecretStr | None = None
    """Secret key of an S3 store; not needed for a folder."""
    job_s3_access_key: str | None = Field(default=None, validation_alias="LLMOS_INFERENCE_JOB_S3_ACCESS_KEY")
    """Access key of the store for jobs, which write what they made. Default: `LLMOS_S3_ACCESS_KEY`."""
    job_s3_secret_key: SecretStr | None = Field(default=None, validation_alias="LLMOS_INFERENCE_JOB_S3_SECRET_KEY")
    """Secret key of the store for jobs. Default: `LLMOS_S3_SECRET_KEY`."""
    replica_nats_url: SecretStr | None = Field(default=None, validation_alias="LLMOS_INFERENCE_REPLICA_NATS_URL")
    """Address of the bus, with user and password of the replicas. Default: `LLMOS_NATS_URL`; only for a bus without
    users."""
    replica_command: tuple[str, ...] = Field(
        default=python_module("services.inference.replica"),
        min_length=1,
        validation_alias="LLMOS_INFERENCE_REPLICA_COMMAND",
    )
    """The program of a replica and its arguments. Default: `services.inference.replica` in this Python."""
    job_command: tuple[str, ...] = Field(
        default=python_module("devtools.jobs.run"),
        min_length=1,
        validation_alias="LLMOS_INFERENCE_JOB_COMMAND",
    )
    """The program of a job and its arguments; the job's folder is added. Default: `devtools.jobs.run` in this Python.
    Training needs one that has torch."""
    job_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "llmos-jobs", validation_alias="LLMOS_INFERENCE_JOB_DIR"
    )
    """Folder in which each job has one of its own, until it has succeeded. Default: `llmos-jobs` in the system's
    folder for temporary files."""
    training_address: Annotated[str, AfterValidator(_own_address)] = "127.0.0.1"
    """IP address of this node at which other nodes reach a training that several nodes run. PyTorch listens on it and
    has no password, so choose a private network. With `127.0.0.1`, only nodes of one machine train together."""
    drain_timeout: float = Field(default=AGENT_DRAIN_S, gt=0.0, le=3600.0)
    """Seconds that the agent has after SIGTERM; its replicas drain within them."""
    replica_drain_timeout: float = Field(
        default=REPLICA_DRAIN_S, gt=0.0, le=3600.0, validation_alias="LLMOS_INFERENCE_DRAIN_TIMEOUT"
    )
    """Seconds after SIGTERM that a replica has for its answers; less if the agent itself has less."""
    load_timeout: float = Field(default=300.0, gt=0.0, validation_alias="LLMOS_INFERENCE_LOAD_TIMEOUT")
    """Seconds within which a started replica must be ready; else it is killed and started again."""
    log_dir: Path | None = Field(default=None, validation_alias="LLMOS_LOG_DIR")
    """Folder in which each replica writes `replica-<id>.log`. Default: none; replicas write to the agent's output."""

    @property
    def given_node_id(self) -> str | None:
        """The id that a person set; None for the default."""
        return self.node_id if "node_id" in self.model_fields_set else None

    @property
    def replica_drain(self) -> float:
        """Seconds that a replica has to drain: less than the agent itself has.

        A replica that is killed while it drains loses the requests that it would have handed back.
        """
        return min(self.replica_drain_timeout, max(0.1, self.drain_timeout - AGENT_CLEAN_UP_S))
