"""Everyone on the bus listening to all that its password lets it hear, for tests of who may say what to whom."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.access.roles import SERVICES, Role
from tests.support.nats.accounts import AccountsServer


class Wiretap:
    """A plain client for each service, with a subscription to `>`."""

    def __init__(self, clients: dict[Role, Client], refusals: dict[Role, list[str]]) -> None:
        self.clients = clients
        self._refusals = refusals
        self.heard: dict[Role, list[tuple[str, bytes]]] = {role: [] for role in clients}

    @classmethod
    @asynccontextmanager
    async def on(cls, server: AccountsServer) -> AsyncIterator[Self]:
        """Listen while inside."""
        async with AsyncExitStack() as stack:
            clients: dict[Role, Client] = {}
            refusals: dict[Role, list[str]] = {}
            for role in SERVICES:
                mine = refusals[role] = []

                async def note(error: Exception, mine: list[str] = mine) -> None:
                    mine.append(str(error).lower())

                clients[role] = await nats.connect(server.url_of(role), error_cb=note)
                stack.push_async_callback(clients[role].close)
            tap = cls(clients, refusals)
            for role, client in clients.items():
                await client.subscribe(">", cb=tap._listener(role))
            await tap.settle()
            yield tap

    def _listener(self, role: Role):
        async def listen(message: Msg) -> None:
            self.heard[role].append((message.subject, message.data))

        return listen

    async def settle(self) -> None:
        """Return once the server has handled all that was said, and all have heard what it sent them."""
        for _ in range(2):
            for client in self.clients.values():
                await client.flush()

    async def refused(self, role: Role, subjects: list[str], *, reply: str = "") -> set[str]:
        """Publish on each subject; those that the server refused."""
        self._refusals[role].clear()
        for subject in subjects:
            await self.clients[role].publish(subject, b"{}", reply=reply)
        await self.settle()
        return {subject for subject in subjects if any(f'"{subject.lower()}"' in one for one in self._refusals[role])}

    def listeners(self, subject: str) -> set[Role]:
        """Who has heard something on the subject."""
        return {role for role, heard in self.heard.items() if any(subject == one for one, _ in heard)}
