"""Every bucket and stream: its limits, who writes it, and who reads it.

A new bucket or stream is declared here, beside the contract that names it.
"""

from dataclasses import dataclass

from shared.bus.access.roles import SERVICES, Role
from shared.contracts import events, file, gateway, job, monitor, registry, response, scheduler, scrub, state
from shared.deadlines import LEASE_TTL_S


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket."""

    name: str
    writers: tuple[Role, ...]
    """They read it too: a change is a compare-and-set."""
    readers: tuple[Role, ...] = ()
    ttl: float | None = None
    """Seconds after which an entry that was not rewritten expires; None: it stays."""
    max_bytes: int | None = None
    """Of all entries: what does not fit is refused; None: as much as the server has room for."""
    computed: bool = False
    """Whether its records are made again from other things when they are lost."""

    @property
    def is_control_state(self) -> bool:
        """Whether nothing else has what it holds: it is part of snapshots and backups."""
        return self.ttl is None and not self.computed and self.name != state.SYSTEM_BUCKET

    @property
    def audience(self) -> tuple[Role, ...]:
        """All who read it."""
        return tuple(dict.fromkeys(self.writers + self.readers))


@dataclass(frozen=True, slots=True)
class Stream:
    """An event stream: the oldest messages are discarded first."""

    name: str
    subject: str
    """What it stores, as a pattern."""
    max_bytes: int
    max_age: float
    writers: dict[Role, str]
    """The subjects, as patterns, that each may publish on."""
    readers: tuple[Role, ...] = ()
    """They read by position."""
    chained: bool = False
    """Whether its writers append: they read the newest message on their own subject, and no more."""
    consumers: tuple[tuple[str, Role], ...] = ()
    """Durable pull consumers, each with its only reader."""


_REGISTRY, _SCHEDULER, _INFERENCE = Role.REGISTRY, Role.SCHEDULER, Role.INFERENCE
_REPLICA, _GATEWAY, _MONITOR = Role.REPLICA, Role.GATEWAY, Role.MONITOR

BUCKETS = (
    *(Bucket(catalogue.bucket, writers=(_REGISTRY,)) for catalogue in registry.CATALOGUES),
    Bucket(scheduler.DEPLOYMENTS_BUCKET, writers=(_SCHEDULER,), readers=(_REGISTRY, _GATEWAY, _MONITOR)),
    Bucket(scheduler.ASSIGNMENTS_BUCKET, writers=(_SCHEDULER,), readers=(_INFERENCE,), computed=True),
    Bucket(scheduler.LEASES_BUCKET, writers=(_SCHEDULER,), readers=(_MONITOR,), ttl=LEASE_TTL_S),
    Bucket(scheduler.NODES_BUCKET, writers=(_INFERENCE,), readers=(_SCHEDULER,), ttl=LEASE_TTL_S),
    Bucket(
        scheduler.REPLICAS_BUCKET,
        writers=(_INFERENCE, _REPLICA),
        readers=(_SCHEDULER, _GATEWAY, _MONITOR),
        ttl=LEASE_TTL_S,
    ),
    Bucket(job.JOBS_BUCKET, writers=(_SCHEDULER,), readers=(_REGISTRY, _INFERENCE)),
    Bucket(job.JOB_RUNS_BUCKET, writers=(_INFERENCE,), readers=(_SCHEDULER,), ttl=LEASE_TTL_S),
    Bucket(gateway.TENANTS_BUCKET, writers=(_GATEWAY,), readers=(_REGISTRY,)),
    Bucket(file.FILES_BUCKET, writers=(_GATEWAY,), readers=(_REGISTRY,)),
    Bucket(
        response.RESPONSES_BUCKET,
        writers=(_GATEWAY,),
        ttl=response.RESPONSES_TTL_S,
        max_bytes=response.RESPONSES_MAX_BYTES,
    ),
    Bucket(response.RESPONSE_RUNS_BUCKET, writers=(_GATEWAY,), ttl=response.RUN_TTL_S),
    Bucket(scrub.SCRUBS_BUCKET, writers=(_REGISTRY, _INFERENCE), computed=True),
    Bucket(state.SYSTEM_BUCKET, writers=(), readers=(_REGISTRY,)),
)
"""The registry reads all control state, because it writes the snapshots; API keys are hashes. Only the owner writes
which system the bus belongs to."""

STREAMS = (
    Stream(
        monitor.TELEMETRY_STREAM,
        monitor.TELEMETRY_SUBJECTS,
        monitor.TELEMETRY_MAX_BYTES,
        monitor.TELEMETRY_MAX_AGE_S,
        writers=dict.fromkeys(SERVICES, monitor.TELEMETRY_SUBJECTS),
        consumers=((monitor.TELEMETRY_DURABLE, Role.MONITOR),),
    ),
    *(
        Stream(
            limits.name,
            limits.subjects,
            limits.max_bytes,
            limits.max_age,
            writers={
                Role(chain.writer): chain.subject
                for chain in events.CHAINS.values()
                if chain.stream == limits and chain.writer != Role.OWNER
            },
            readers=(_GATEWAY, _MONITOR),
            chained=True,
        )
        for limits in events.EVENT_STREAMS
    ),
    Stream(
        job.JOB_EVENTS_STREAM,
        f"{job.JOB_EVENTS_SUBJECT}.>",
        job.JOB_EVENTS_MAX_BYTES,
        job.JOB_EVENTS_MAX_AGE_S,
        writers=dict.fromkeys((_SCHEDULER, _INFERENCE), f"{job.JOB_EVENTS_SUBJECT}.>"),
        readers=(_GATEWAY,),
    ),
)
