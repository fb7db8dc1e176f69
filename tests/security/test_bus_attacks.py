"""Attacks that made an admin key of a service's bus password, or read prompts with it: each is tried by each service.

JetStream sends what it is asked for to any reply subject, and what a consumer delivers to any subject, whether or not
the one who asks may publish there. Only the border of an account stops it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime

import nats
import pytest
from nats.aio.client import Client

from services.gateway import auth
from shared.bus.access.provision import provision
from shared.bus.access.roles import SERVICES, Role
from shared.bus.connect import connect
from shared.contracts.gateway import TENANTS_BUCKET, Scope
from tests.support.harness.wait import eventually
from tests.support.nats.accounts import AccountsServer
from tests.support.nats.server import NatsServer

FORGED = f"$KV.{TENANTS_BUCKET}.key-forged"
VICTIMS = (FORGED, "llmos.v1.registry.delete_model", "llmos.v1.scheduler.deploy", "llmos.v1.replica.r1.generate")
"""Where an attacker wants its own bytes to arrive."""
OWN_CONTENT = {
    Role.REGISTRY: ("KV_LLMOS_MODELS", "$KV.LLMOS_MODELS.mine"),
    Role.SCHEDULER: ("KV_LLMOS_DEPLOYMENTS", "$KV.LLMOS_DEPLOYMENTS.mine"),
    Role.INFERENCE: ("KV_LLMOS_NODES", "$KV.LLMOS_NODES.mine"),
    Role.REPLICA: ("KV_LLMOS_REPLICAS", "$KV.LLMOS_REPLICAS.mine"),
    Role.MONITOR: ("LLMOS_TELEMETRY", "llmos.v1.telemetry.traces"),
}
"""What each can write and then have sent. The gateway is left out: it writes keys by its office."""
EACH_ATTACKER = pytest.mark.parametrize("attacker", OWN_CONTENT)


@pytest.fixture
async def owner(accounts: AccountsServer) -> AsyncIterator[Client]:
    client = await nats.connect(accounts.url_of(Role.OWNER))
    yield client
    await client.close()


def admin_record() -> bytes:
    """What the attacker would have: a record of a key that it knows."""
    now = datetime.fromisoformat("2026-11-30T00:00:00+00:00")
    return auth.new_record("llmos-" + "a" * 43, "mine", (Scope.ADMIN,), now).encode()


async def ask(client: Client, subject: str, body: object) -> str:
    """The server's answer to a request of JetStream, or the refusal."""
    try:
        return (await client.request(subject, json.dumps(body).encode(), timeout=0.2)).data.decode()
    except (TimeoutError, nats.errors.Error) as error:
        return f"refused: {error!r}"


async def no_key_was_made(accounts: AccountsServer) -> bool:
    gateway = await connect(accounts.url_of(Role.GATEWAY), name="gateway")
    try:
        return await gateway.kv(TENANTS_BUCKET).entries() == []
    finally:
        await gateway.drain()


@EACH_ATTACKER
async def test_a_stream_that_republishes_into_the_bucket_of_keys_is_refused(accounts, tap, owner, attacker):
    client, (_, subject) = tap.clients[attacker], OWN_CONTENT[attacker]
    stream = {
        "name": "EVIL",
        "subjects": ["evil.>"],
        "republish": {"src": "evil.>", "dest": f"$KV.{TENANTS_BUCKET}.>"},
    }
    assert "refused" in await ask(client, "$JS.API.STREAM.CREATE.EVIL", stream)
    own_stream = {"name": OWN_CONTENT[attacker][0], "subjects": [subject], "republish": stream["republish"]}
    assert "refused" in await ask(client, f"$JS.API.STREAM.UPDATE.{own_stream['name']}", own_stream)
    await client.publish("evil.key-forged", admin_record())
    await tap.settle()
    assert "EVIL" not in {stream.config.name for stream in await owner.jetstream().streams_info()}
    assert await no_key_was_made(accounts)


@EACH_ATTACKER
async def test_a_consumer_that_delivers_to_another_service_is_refused(accounts, tap, owner, attacker):
    client, (stream, subject) = tap.clients[attacker], OWN_CONTENT[attacker]
    await client.publish(subject, admin_record())
    for victim in VICTIMS:
        config = {"name": "evil", "durable_name": "evil", "deliver_subject": victim, "ack_policy": "none"}
        body = {"stream_name": stream, "config": config}
        for request in (
            f"CREATE.{stream}",
            f"CREATE.{stream}.evil",
            f"CREATE.{stream}.evil.{subject}",
            f"DURABLE.CREATE.{stream}.evil",
        ):
            assert "refused" in await ask(client, f"$JS.API.CONSUMER.{request}", body)
    await tap.settle()
    assert "evil" not in {consumer.name for consumer in await owner.jsm().consumers_info(stream)}
    assert await no_key_was_made(accounts)


@EACH_ATTACKER
async def test_a_stream_over_the_requests_of_replicas_is_refused(tap, owner, attacker):
    client = tap.clients[attacker]
    for subjects in (["llmos.v1.replica.>"], ["llmos.v1.gateway.>"], ["_INBOX.>"], [">"]):
        assert "refused" in await ask(client, "$JS.API.STREAM.CREATE.EVIL", {"name": "EVIL", "subjects": subjects})
    assert "EVIL" not in {stream.config.name for stream in await owner.jetstream().streams_info()}


@pytest.mark.parametrize("attacker", sorted(set(SERVICES) - {Role.GATEWAY, Role.REPLICA}))
async def test_listening_to_all_inboxes_and_subjects_hears_no_prompt_and_no_answer(accounts, tap, attacker):
    """The tap listens to `>`, which holds `_INBOX.>`."""
    gateway = await connect(accounts.url_of(Role.GATEWAY), name="gateway")
    replica = await connect(accounts.url_of(Role.REPLICA), name="replica")

    async def answer(_):
        return b"the answer"

    try:
        await replica.respond("llmos.v1.replica.r1.generate", answer)
        await gateway.request("llmos.v1.replica.r1.generate", b"the prompt", timeout=5)
        await replica.publish("llmos.v1.gateway.g1.frames", b"the frames")
        await tap.settle()
        secrets = (b"the prompt", b"the answer", b"the frames")
        assert [data for _, data in tap.heard[attacker] if data in secrets] == []
        assert {b"the prompt"} <= {data for _, data in tap.heard[Role.REPLICA]}  # it was there to be heard
    finally:
        await gateway.drain()
        await replica.drain()


@EACH_ATTACKER
async def test_nothing_that_jetstream_sends_reaches_another_account_by_its_reply_subject(accounts, tap, attacker):
    """What a service wrote itself, the acknowledgement of a write, an error: none of it arrives at a victim."""
    client, (stream, subject) = tap.clients[attacker], OWN_CONTENT[attacker]
    await client.publish(subject, admin_record())
    reads = (
        (f"$JS.API.DIRECT.GET.{stream}", {"seq": 1}),
        (f"$JS.API.DIRECT.GET.{stream}", {"seq": 1, "batch": 10, "next_by_subj": ">"}),
        (f"$JS.API.DIRECT.GET.{stream}.{subject}", {}),
        (f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": 1}),
        (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.monitor", {"batch": 10, "no_wait": True}),
    )
    for victim in VICTIMS:
        for request, body in reads:
            await client.publish(request, json.dumps(body).encode(), reply=victim)
        await client.publish(subject, admin_record(), reply=victim)
    await tap.settle()
    await asyncio.gather(*(ask(client, request, body) for request, body in reads))  # all before has been handled
    for victim in VICTIMS:
        assert tap.listeners(victim) <= {attacker}  # in its own account it may talk to itself
    assert await no_key_was_made(accounts)


async def test_on_a_bus_with_rights_but_without_accounts_the_reply_subject_makes_a_key():
    """Were nats-server to check reply subjects one day, this would fail, and the accounts could go."""
    permissions = '{ publish: ["llmos.v1.telemetry.>", "$JS.API.DIRECT.GET.LLMOS_TELEMETRY"] }'
    users = f"[{{user: owner, password: p}}, {{user: monitor, password: p, permissions: {permissions}}}]"
    with NatsServer(config=f"authorization {{ users = {users} }}") as flat:
        await provision(flat.url_for("owner", "p"))
        client = await nats.connect(flat.url_for("monitor", "p"))
        gateway = await connect(flat.url_for("owner", "p"), name="gateway")
        try:
            await client.request("llmos.v1.telemetry.traces", admin_record(), timeout=5)  # returns when it is stored
            await client.publish("$JS.API.DIRECT.GET.LLMOS_TELEMETRY", b'{"seq":1}', reply=FORGED)

            async def made() -> bool:
                entry = await gateway.kv(TENANTS_BUCKET).get("key-forged")
                return entry is not None and entry.value == admin_record()

            await eventually(made)
        finally:
            await gateway.drain()
            await client.close()
