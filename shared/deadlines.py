"""Intervals, time-outs and times to live that depend on one another, all in seconds.

`tests/unit/service/test_deadlines.py` asserts how they relate. A time that depends on no other
stays in its module.
"""

from typing import Final

# --- Who is alive: each sign of life comes several times within the silence that is taken for death. ---
LEASE_RENEW_S: Final = 1.0
"""A holder renews its lease this often."""
LEASE_TTL_S: Final = 5.0
"""A lease that was not renewed for this long has expired: its holder counts as dead."""
CLAIM_GRACE_S: Final = 1.0
"""Beyond the time to live of a lease: how long a node agent waits before it takes over a silent node's id."""

WATCH_HEARTBEAT_S: Final = 1.0
"""A watch of a bucket asks the server this often what it has stored last."""
WATCH_SILENCE_S: Final = 3.0
"""A watch without an answer for this long is no longer fresh, and begins again. Below `LEASE_TTL_S`: a watch that
missed renewals must not be taken for leases that expired."""

LOAD_REPORT_S: Final = 0.5
"""A replica publishes its load this often."""
LOAD_FRESH_S: Final = 3 * LOAD_REPORT_S
"""A replica that reported within this time is alive, even when its lease could not be renewed."""

HEARTBEAT_S: Final = 1.0
"""A process publishes a heartbeat, and writes its health file, this often."""
HEARTBEAT_TTL_S: Final = 5.0
"""A process without a heartbeat for this long is down."""
HEALTH_FILE_STALE_S: Final = 10.0
"""A process that did not write its health file for this long hangs: its container is restarted."""
FORGET_INSTANCE_S: Final = 60.0
"""A process that is down is reported for this long after its last heartbeat."""

# --- An engine that has work and completes no step has stalled: a driver that hangs, a lock, an endless loop. ---
STALL_S: Final = 5.0
"""The shortest time without a step that is a stall; slow models have more, in proportion to their steps."""
STALL_UNMEASURED_S: Final = 60.0
"""The same for the first step of a process, which nothing is known about and which may be slow for once."""
STALL_RESTART_S: Final = 30.0
"""The agent restarts a replica that has said for this long that it has stalled. It may recover before."""
SILENCE_RESTART_S: Final = 15.0
"""The agent restarts a replica that was ready and then gave no sign of life for this long: it neither renewed its
lease nor reported its load. What loads has more time, see `LLMOS_INFERENCE_LOAD_TIMEOUT`."""
STACK_DUMP_S: Final = 1.0
"""The time that a process has to write its stacks to its log before it is killed."""

BUS_HANG_S: Final = 10.0
"""The launcher restarts a bus that has responded to nothing for this long."""

BUS_RETURN_S: Final = 3.0
"""A request waits this long for a bus that is being restarted: it was not sent yet, so waiting loses nothing. Below
`LEASE_TTL_S`, so that what is known of the replicas still holds."""

# --- Starting. ---
BUS_CONNECT_S: Final = 30.0
"""A service waits this long for a bus that is not there yet."""
LAUNCHER_READY_S: Final = 60.0
"""`llmos up` waits this long for all services."""

# --- Requests between services: the inner one times out first, so that its error reaches the caller. ---
RESOLVE_S: Final = 5.0
"""The scheduler waits this long for the registry."""
ADMIN_CALL_S: Final = 30.0
"""The gateway waits this long for the registry, the scheduler or the monitor. The creation of a version reads the
sizes of its blobs from the store."""

# --- HTTP connections of the gateway. ---
CLIENT_POOL_S: Final = 90.0
"""The longest time that usual pools keep an idle connection: Go's net/http and Rust's hyper 90 s, nginx and
AWS's load balancers 60 s, Java 30 s. If the server closed first, a request that is sent at that moment would be lost,
and clients do not repeat a POST."""
KEEP_ALIVE_S: Final = 120.0
"""The gateway keeps an idle connection by default this long: until the client's pool has dropped it. Behind a load
balancer with longer ones (Google's: 600 s) the setting must be raised."""
HEAD_S: Final = 10.0
"""By default a client has this long to send the head of a request, from its first byte."""
BODY_WINDOW_S: Final = 15.0
"""By default the rate of a request's body is checked over this long."""
SEND_WINDOW_S: Final = 30.0
"""By default the rate at which a client reads its response is checked over this long, while some of it waits."""
LINGER_S: Final = 2.0
"""A connection that closes while the client still sends stays half open this long: the client can read why."""
STREAM_COMMENT_S: Final = 15.0
"""A silent stream carries a comment this often, so that proxies do not take it for dead (60 s with most)."""

# --- Stopping a service: drain, then each part of the clean-up in turn. ---
SERVICE_DRAIN_S: Final = 10.0
"""By default a service gives its running work this long after SIGTERM."""
CUT_S: Final = 3.0
"""For clean-up after the drain was cut short."""
TELEMETRY_FLUSH_S: Final = 2.0
"""For spans that were not exported yet."""
TELEMETRY_PUBLISH_S: Final = 2.0
"""For one export of them."""
BUS_DRAIN_S: Final = 3.0
"""For the subscriptions that are left, and the last messages."""
TEARDOWN_S: Final = 3.0
"""For threads to end after everything else has."""
AFTER_DRAIN_S: Final = CUT_S + TELEMETRY_FLUSH_S + BUS_DRAIN_S + TEARDOWN_S
"""The longest time between the end of the drain and the end of the process."""
FORWARDING_FLUSH_S: Final = 2.0
"""Part of the monitor's drain: for telemetry that is still to be forwarded."""
HANDLERS_DRAIN_S: Final = 10.0
"""`Bus.drain` waits this long for handlers before it cancels them; a service waits for `BUS_DRAIN_S` in all."""

# --- Stopping a node: its replicas stop within the drain of its agent. ---
REPLICA_DRAIN_S: Final = 30.0
"""By default a replica has this long for its answers, and to hand back the others."""
ENGINE_CONFIRM_S: Final = 3.0
"""Part of a replica's drain: the engine confirms an ended sequence within a step; a step lasts less than this."""
REPLICA_RECORD_S: Final = 1.0
"""Part of a replica's drain: for the removal of its record."""
DRAIN_REQUEST_S: Final = 1.0
"""The agent waits this long for a replica to confirm that it drains; the replica drains on SIGTERM all the same."""
REPLICA_CLEAN_UP_S: Final = 5.0
"""A replica that drained has this long for its clean-up before it is killed."""
AGENT_RECORD_S: Final = 1.0
"""For the agent to remove the records of replicas that it killed."""
AGENT_CLEAN_UP_S: Final = DRAIN_REQUEST_S + REPLICA_CLEAN_UP_S + AGENT_RECORD_S
"""Part of the agent's drain that its replicas cannot use for theirs."""
AGENT_DRAIN_S: Final = 40.0
"""By default an agent has this long after SIGTERM to drain its replicas."""

# --- Stopping a job. ---
JOB_STOP_S: Final = 20.0
"""A job that is paused or preempted has this long to save a checkpoint before it is killed. Below `AGENT_DRAIN_S`."""
JOB_CANCEL_S: Final = 3.0
"""A job that is cancelled has this long to end."""

# --- Stopping an embedded system: the gateway, the node, the other services, nats-server, one after another. ---
CHILD_STOP_S: Final = 15.0
"""By default a supervised child has this long between SIGTERM and SIGKILL; nats-server is one."""
LAUNCHER_STOP_S: Final = 25.0
"""For each service but the node agent."""
LAUNCHER_STOP_AGENT_S: Final = 55.0
DOWN_S: Final = 120.0
"""`llmos down` waits this long for all of them."""
