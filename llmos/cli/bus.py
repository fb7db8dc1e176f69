"""`llmos bus …`: the bus of a deployment that is not `llmos up`."""

import asyncio
import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from llmos.cli.output import say
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="The message bus of a deployment of your own.")

WAIT_S = 10.0


@app.callback()
def group() -> None:
    """The message bus of a deployment of your own."""


@app.command(epilog="Example: LLMOS_NATS_URL=nats://owner:PASSWORD@nats:4222 llmos bus init")
def init(
    nats_url: Annotated[
        str | None, typer.Option("--nats-url", help="The bus, for a server without passwords.", show_default=False)
    ] = None,
) -> None:
    """Make the buckets, streams and consumers that the services need; leave what is there.

    LLMOS_NATS_URL is the bus with the password of the user 'owner': on a command line others would read it. With
    LLMOS_STORE_URL (of S3: and LLMOS_S3_ACCESS_KEY, LLMOS_S3_SECRET_KEY) the bus is compared with its store too:
    one that has lost control state is refused. Without, the registry writes no snapshots.
    """
    url = nats_url or os.environ.get("LLMOS_NATS_URL")
    if not url:
        raise InvalidInput(
            "LLMOS_NATS_URL is not set: give the bus as nats://owner:PASSWORD@host:4222", param="LLMOS_NATS_URL"
        )
    from shared.bus.access.provision import provision  # noqa: PLC0415  # other commands start without NATS

    store_url = os.environ.get("LLMOS_STORE_URL")
    if store_url:
        asyncio.run(_prepare(url, store_url))
    else:
        asyncio.run(provision(url, timeout=WAIT_S))
    say("the bus has all its buckets, streams and consumers")


async def _prepare(url: str, store_url: str) -> None:
    from shared.bus.access.provision import owner  # noqa: PLC0415  # as above
    from shared.state.prepare import prepare  # noqa: PLC0415
    from shared.storage.open import open_store_with  # noqa: PLC0415

    async with owner(url, timeout=WAIT_S) as bus:
        store = open_store_with(store_url, os.environ)
        await prepare(
            bus, store, now=datetime.now(UTC), store_name=store_url, command="python -m shared.state restore"
        )
