"""nats-py's client, mended where a cancelled caller would break the connection of all others."""

import asyncio

from nats.aio.client import Client


class PatientClient(Client):
    """A client whose read loop outlives those who no longer wait for a PONG."""

    async def _process_pong(self) -> None:
        """Hand a PONG to the oldest PING.

        nats-py sets the result of the future that waits, also when a time-out or a cancellation has ended it. That
        raises `InvalidStateError` in the read loop, and every request on the connection is lost with it.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
