"""`llmos bus …`: the bus of a deployment that is not `llmos up`."""

import asyncio
import os
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

    LLMOS_NATS_URL is the bus with the password of the user 'owner': on a command line others would read it.
    """
    url = nats_url or os.environ.get("LLMOS_NATS_URL")
    if not url:
        raise InvalidInput(
            "LLMOS_NATS_URL is not set: give the bus as nats://owner:PASSWORD@host:4222", param="LLMOS_NATS_URL"
        )
    from shared.bus.access.provision import provision  # noqa: PLC0415  # other commands start without NATS

    asyncio.run(provision(url, timeout=WAIT_S))
    say("the bus has all its buckets, streams and consumers")
