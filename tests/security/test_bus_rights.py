"""What each password of the bus is good for, asked of a real nats-server.

The expectations are written out here, on purpose a second time: a table compared with itself would prove nothing.
"""

import asyncio

import nats
import pytest

from shared.audit.trail import Trail
from shared.bus.access.roles import SERVICES, Role
from shared.bus.access.stored import BUCKETS, STREAMS
from shared.bus.connect import connect
from shared.bus.names import OBJECTS_STREAM
from shared.bus.port import KvOperation
from shared.contracts.events import CHAINS
from shared.errors import PermissionDenied, Unavailable
from tests.support.harness.wait import eventually
from tests.support.nats.server import NatsServer

REGISTRY, SCHEDULER, INFERENCE = Role.REGISTRY, Role.SCHEDULER, Role.INFERENCE
REPLICA, GATEWAY, MONITOR = Role.REPLICA, Role.GATEWAY, Role.MONITOR

WRITES = {
    "LLMOS_MODELS": {REGISTRY},
    "LLMOS_DATASETS": {REGISTRY},
    "LLMOS_REPORTS": {REGISTRY},
    "LLMOS_DEPLOYMENTS": {SCHEDULER},
    "LLMOS_ASSIGNMENTS": {SCHEDULER},
    "LLMOS_LEASES": {SCHEDULER},
    "LLMOS_NODES": {INFERENCE},
    "LLMOS_REPLICAS": {INFERENCE, REPLICA},
    "LLMOS_JOBS": {SCHEDULER},
    "LLMOS_JOB_RUNS": {INFERENCE},
    "LLMOS_TENANTS": {GATEWAY},
    "LLMOS_FILES": {GATEWAY},
    "LLMOS_RESPONSES": {GATEWAY},
    "LLMOS_RESPONSE_RUNS": {GATEWAY},
    "LLMOS_SCRUBS": {REGISTRY, INFERENCE},
    "LLMOS_SYSTEM": set(),
}
ONLY_READS = {
    "LLMOS_DEPLOYMENTS": {REGISTRY, GATEWAY, MONITOR},
    "LLMOS_ASSIGNMENTS": {INFERENCE},
    "LLMOS_NODES": {SCHEDULER},
    "LLMOS_REPLICAS": {SCHEDULER, GATEWAY, MONITOR},
    "LLMOS_LEASES": {MONITOR},
    "LLMOS_JOBS": {REGISTRY, INFERENCE},
    "LLMOS_JOB_RUNS": {SCHEDULER},
    "LLMOS_FILES": {REGISTRY},
    "LLMOS_TENANTS": {REGISTRY},
    "LLMOS_SYSTEM": {REGISTRY},
}
PUBLISHES = {
    "llmos.v1.telemetry.traces": set(SERVICES),
    "llmos.v1.events.registry": {REGISTRY},
    "llmos.v1.events.scheduler": {SCHEDULER},
    "llmos.v1.events.inference": {INFERENCE},
    "llmos.v1.events.gateway": {GATEWAY},
    "llmos.v1.events.monitor": {MONITOR},
    "llmos.v1.events.owner": set(),
    "llmos.v1.events.replica": set(),
    "llmos.v1.events.registry.alias": set(),
    "llmos.v1.key_events": {GATEWAY},
    "llmos.v1.refusals": {GATEWAY},
    "llmos.v1.job_events.train-1": {SCHEDULER, INFERENCE},
}
ASKS = {
    "llmos.v1.registry.delete_model": (REGISTRY, {GATEWAY}),
    "llmos.v1.registry.resolve_model": (REGISTRY, {GATEWAY, SCHEDULER}),
    "llmos.v1.registry.create_model_version": (REGISTRY, {GATEWAY, INFERENCE}),
    "llmos.v1.scheduler.deploy": (SCHEDULER, {GATEWAY}),
    "llmos.v1.monitor.get_trace": (MONITOR, {GATEWAY}),
    "llmos.v1.replica.r1.generate": (REPLICA, {GATEWAY}),
    "llmos.v1.replica.r1.drain": (REPLICA, {GATEWAY, INFERENCE}),
    "llmos.v1.node.n1.check_blob": (INFERENCE, {GATEWAY}),
}
BROADCASTS = {
    "llmos.v1.gateway.g1.frames": (REPLICA, {GATEWAY}),
    "llmos.v1.load.r1": (REPLICA, {GATEWAY, INFERENCE, MONITOR}),
    "llmos.v1.health.gateway.g1": (GATEWAY, {REPLICA, MONITOR}),
    "llmos.v1.health.registry.r1": (REGISTRY, {MONITOR}),
    "llmos.v1.health.scheduler.s1": (SCHEDULER, {MONITOR}),
    "llmos.v1.health.inference.n1": (INFERENCE, {MONITOR}),
    "llmos.v1.health.replica.r1": (REPLICA, {MONITOR}),
    "llmos.v1.health.monitor.m1": (MONITOR, set()),
}
STREAM_VERBS = (
    *("CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "LIST", "NAMES", "SNAPSHOT", "RESTORE", "MSG.GET", "MSG.DELETE"),
    *("PEER.REMOVE", "LEADER.STEPDOWN"),
)
CONSUMER_VERBS = (
    *("CREATE", "DURABLE.CREATE", "DELETE", "INFO", "LIST", "NAMES", "PAUSE", "RESET", "UNPIN", "LEADER.STEPDOWN"),
    "MSG.NEXT",
)
ALL_STREAMS = [OBJECTS_STREAM, *(stream.name for stream in STREAMS), *(f"KV_{bucket.name}" for bucket in BUCKETS)]
EACH_SERVICE = pytest.mark.parametrize("role", SERVICES)


def test_these_expectations_name_every_bucket():
    assert WRITES.keys() == {bucket.name for bucket in BUCKETS}


@EACH_SERVICE
async def test_no_service_makes_changes_or_lists_a_stream_or_a_consumer(tap, role):
    subjects = [f"$JS.API.STREAM.{verb}.{stream}" for verb in STREAM_VERBS for stream in [*ALL_STREAMS, "NEW"]]
    subjects += [f"$JS.API.CONSUMER.{verb}.{stream}.mine" for verb in CONSUMER_VERBS for stream in ALL_STREAMS]
    subjects += [f"$JS.API.CONSUMER.CREATE.{stream}" for stream in ALL_STREAMS]
    subjects += [f"$JS.API.CONSUMER.CREATE.{stream}.mine.>" for stream in ALL_STREAMS]
    subjects += [
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$SYS.REQ.SERVER.PING",
        "$JS.FC.x.y.z",
    ]
    assert await tap.refused(role, subjects) == set(subjects)


@EACH_SERVICE
async def test_only_the_monitor_takes_telemetry_from_its_consumer(tap, role):
    subjects = ["$JS.API.CONSUMER.MSG.NEXT.LLMOS_TELEMETRY.monitor", "$JS.ACK.LLMOS_TELEMETRY.monitor.1.2.3.4.5"]
    assert await tap.refused(role, subjects) == (set() if role is MONITOR else set(subjects))


@EACH_SERVICE
async def test_a_service_writes_its_own_buckets_and_no_other(tap, role):
    subjects = {f"$KV.{bucket}.key": writers for bucket, writers in WRITES.items()}
    refused = await tap.refused(role, list(subjects))
    assert refused == {subject for subject, writers in subjects.items() if role not in writers}


@EACH_SERVICE
async def test_a_service_reads_the_buckets_that_it_needs_and_no_other(accounts, role):
    owner = await connect(accounts.url_of(Role.OWNER), name="owner", owner=True)
    bus = await connect(accounts.url_of(role), name="reader")
    try:
        for bucket, writers in WRITES.items():
            await owner.kv(bucket).put("read", b"content")
            kv = bus.kv(bucket)
            if role in writers | ONLY_READS.get(bucket, set()):
                entry = await kv.get("read")
                assert entry is not None
                assert entry.value == b"content"
                async with kv.watch() as events, asyncio.timeout(10):
                    while (event := await anext(events)).operation is not KvOperation.SYNCED:
                        pass
                    await owner.kv(bucket).put("live", b"change")
                    while event.key != "live":
                        event = await anext(events)
        others = [name for name, writers in WRITES.items() if role not in writers | ONLY_READS.get(name, set())]
        found = await asyncio.gather(
            *(bus.request(f"$JS.API.DIRECT.GET.KV_{name}", b'{"seq":1}', timeout=0.5) for name in others),
            *(bus.request(f"$JS.API.DIRECT.GET.KV_{name}.$KV.{name}.read", b"", timeout=0.5) for name in others),
            return_exceptions=True,
        )
        assert [type(one) for one in found] == [PermissionDenied] * len(found)
    finally:
        await bus.drain()
        await owner.drain()


async def test_a_change_of_a_bucket_reaches_its_readers_and_nobody_else(accounts, tap):
    owner = await nats.connect(accounts.url_of(Role.OWNER))
    try:
        for bucket, writers in WRITES.items():
            await owner.request(f"$KV.{bucket}.changed", b"x")
            expected = writers | ONLY_READS.get(bucket, set())
            live = f"llmos.v1.kv.{bucket}.changed"
            await eventually(lambda live=live, expected=expected: tap.listeners(live) == expected)
            await tap.settle()
            assert tap.listeners(live) == expected
            assert tap.listeners(f"$KV.{bucket}.changed") == set()
    finally:
        await owner.close()


@EACH_SERVICE
async def test_a_service_publishes_into_streams_under_its_own_name(tap, role):
    assert await tap.refused(role, list(PUBLISHES)) == {
        one for one, writers in PUBLISHES.items() if role not in writers
    }


@EACH_SERVICE
async def test_what_a_service_may_not_ask_reaches_nobody(tap, role):
    refused = await tap.refused(role, list(ASKS))
    assert refused == {subject for subject, (_, senders) in ASKS.items() if role not in senders}
    for subject, (receiver, senders) in ASKS.items():
        assert tap.listeners(subject) - {role} == ({receiver} - {role} if role in senders else set()), subject


@EACH_SERVICE
async def test_a_broadcast_comes_from_its_service_and_reaches_its_receivers(tap, role):
    refused = await tap.refused(role, list(BROADCASTS))
    assert refused == {subject for subject, (sender, _) in BROADCASTS.items() if sender is not role}
    for subject, (sender, receivers) in BROADCASTS.items():
        assert tap.listeners(subject) - {role} == (receivers if sender is role else set()), subject


async def test_an_answer_and_the_inbox_it_is_sent_to_are_seen_by_nobody_else(accounts, tap):
    bus = await connect(accounts.url_of(GATEWAY), name="asks")
    answerer = await connect(accounts.url_of(REGISTRY), name="answers")

    async def answer(_):
        return b"the answer"

    try:
        await answerer.respond("llmos.v1.registry.list_models", answer)
        assert await bus.request("llmos.v1.registry.list_models", b"the question", timeout=5) == b"the answer"
        await tap.settle()
        heard = {role for role, messages in tap.heard.items() if any(b"answer" in data for _, data in messages)}
        assert heard <= {GATEWAY, REGISTRY}  # two connections of a service have one account
        asked = {role for role, messages in tap.heard.items() if any(b"question" in data for _, data in messages)}
        assert asked <= {GATEWAY, REGISTRY}
    finally:
        await bus.drain()
        await answerer.drain()


async def test_a_large_request_is_read_by_its_receiver_and_by_no_other_service(accounts, tap):
    bus = await connect(accounts.url_of(GATEWAY), name="asks")
    answerer = await connect(accounts.url_of(REPLICA), name="answers")
    reached, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(message):
        reached.set()
        await may_answer.wait()
        return message.data[:700_000]

    try:
        await answerer.respond("llmos.v1.replica.r9.embed", answer)
        asking = asyncio.create_task(bus.request("llmos.v1.replica.r9.embed", b"p" * 1_500_000, timeout=20))
        await reached.wait()
        reads = [
            f"$JS.API.DIRECT.GET.{OBJECTS_STREAM}.llmos.v1.objects.gateway.replica.*.*",
            f"$JS.API.DIRECT.GET.{OBJECTS_STREAM}.>",
            f"$JS.API.DIRECT.GET.{OBJECTS_STREAM}",
        ]
        for role in set(SERVICES) - {REPLICA}:
            assert await tap.refused(role, reads) == set(reads), role
        assert await tap.refused(REPLICA, reads) == set(reads[1:])
        may_answer.set()
        assert len(await asking) == 700_000
    finally:
        may_answer.set()
        await bus.drain()
        await answerer.drain()


async def test_a_bucket_that_a_service_may_not_read_is_an_error_that_names_the_refusal(accounts):
    bus = await connect(accounts.url_of(MONITOR), name="monitor-1")
    try:
        with pytest.raises(PermissionDenied, match=r"does not let monitor-1 use .*kv_llmos_tenants.*credentials"):
            await bus.kv("LLMOS_TENANTS").get("key")
    finally:
        await bus.drain()


async def test_a_bus_without_its_streams_says_which_command_makes_them():
    with NatsServer(config="debug: false") as bare:  # a configuration of its own: nothing is made
        bus = await connect(bare.url, name="gateway-1")
        try:
            with pytest.raises(Unavailable, match="'llmos bus init' makes them"):
                await bus.kv("LLMOS_TENANTS").get("key")
        finally:
            await bus.drain()


@EACH_SERVICE
async def test_a_service_reads_the_end_of_its_own_chain_and_only_gateway_and_monitor_read_all(tap, role):
    reads = {
        f"$JS.API.DIRECT.GET.LLMOS_EVENTS.llmos.v1.events.{chain}": {chain}
        for chain in (REGISTRY, SCHEDULER, INFERENCE, GATEWAY, MONITOR, Role.OWNER)
    } | {
        f"$JS.API.DIRECT.GET.{stream}{suffix}": {GATEWAY} if suffix else {GATEWAY, MONITOR}
        for stream, suffix in (
            ("LLMOS_EVENTS", ""),
            ("LLMOS_KEY_EVENTS", ""),
            ("LLMOS_KEY_EVENTS", ".llmos.v1.key_events"),
            ("LLMOS_REFUSALS", ""),
            ("LLMOS_REFUSALS", ".llmos.v1.refusals"),
        )
    }
    assert await tap.refused(role, list(reads)) == {subject for subject, who in reads.items() if role not in who}


async def test_every_chain_is_written_by_its_service_with_the_rights_that_it_has(accounts):
    for chain in CHAINS.values():
        bus = await connect(accounts.url_of(Role(chain.writer)), name=chain.writer, owner=chain.writer == Role.OWNER)
        try:
            event = await Trail(bus, chain, actor="test").record("service.started", "test")
            assert event.number
        finally:
            await bus.drain()
