"""What the password of a service is good for: the monitor's, who has the least to write."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.attack.target import Outcome, Target
from shared.contracts.gateway import TENANTS_BUCKET

LISTEN_S = 3.0
WHISPER = "What nobody else may hear."
REPLICAS = "llmos.v1.replica."
"""Where the requests of replicas arrive, and their answers' frames. The monitor may hear their beats."""


def make_a_key(target: Target) -> Outcome:
    """A stream that republishes what the attacker writes into the bucket of API keys."""

    async def attack(client: Client) -> Outcome:
        body = {
            "name": "STOLEN",
            "subjects": ["stolen.>"],
            "republish": {"src": "stolen.>", "dest": f"$KV.{TENANTS_BUCKET}.key-forged"},
        }
        answers = [await _ask(client, "$JS.API.STREAM.CREATE.STOLEN", body)]
        await client.publish(f"$KV.{TENANTS_BUCKET}.key-forged", b"{}")
        await client.flush()
        listed = target.admin.keys()
        keys = {key.id for key in listed}
        return Outcome(f"{answers[0]}; {len(keys)} keys, none of them forged", "key-forged" not in keys)

    return _with_the_monitors_password(target, attack)


def read_prompts(target: Target) -> Outcome:
    """Listens to all inboxes and to the requests of replicas, while the quiet tenant chats."""

    async def attack(client: Client) -> Outcome:
        heard: list[Msg] = []

        async def note(message: Msg) -> None:
            heard.append(message)

        for subject in ("_INBOX.>", "llmos.v1.replica.>", "llmos.v1.gateway.>", ">"):
            await client.subscribe(subject, cb=note)
        await client.flush()
        await asyncio.to_thread(target.chat, WHISPER, key=target.quiet)
        await asyncio.sleep(LISTEN_S)
        secrets = [one for one in heard if one.subject.startswith(REPLICAS) or WHISPER.encode() in one.data]
        return Outcome(f"{len(heard)} messages heard, {len(secrets)} of prompts or answers", not secrets)

    return _with_the_monitors_password(target, attack)


def deliver_to_a_service(target: Target) -> Outcome:
    """A push consumer whose messages arrive as requests to the registry."""

    async def attack(client: Client) -> Outcome:
        config = {"deliver_subject": "llmos.v1.registry.delete_model", "ack_policy": "none", "deliver_policy": "all"}
        body = {"stream_name": "LLMOS_TELEMETRY", "config": config}
        answer = await _ask(client, "$JS.API.CONSUMER.CREATE.LLMOS_TELEMETRY", body)
        return Outcome(answer, "stream_name" not in answer)

    return _with_the_monitors_password(target, attack)


async def _ask(client: Client, subject: str, body: object) -> str:
    try:
        return (await client.request(subject, json.dumps(body).encode(), timeout=1)).data.decode()[:80]
    except (TimeoutError, nats.errors.Error) as error:
        return f"no answer ({type(error).__name__})"


def _with_the_monitors_password(target: Target, attack: Callable[[Client], Awaitable[Outcome]]) -> Outcome:
    password = target.home.bus_passwords(["monitor"])["monitor"]

    async def ignore(_: Exception) -> None:
        """Refusals arrive here, too."""

    async def run() -> Outcome:
        client = await nats.connect(
            target.nats_url, user="monitor", password=password, inbox_prefix="_INBOX.monitor", error_cb=ignore
        )
        try:
            return await attack(client)
        finally:
            await client.close()

    return asyncio.run(run())


ATTACKS = (make_a_key, read_prompts, deliver_to_a_service)
