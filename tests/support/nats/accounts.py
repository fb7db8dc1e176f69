"""A real nats-server with the accounts of LLMOS, and everything on it made by their owner."""

from pathlib import Path

import orjson

from shared.bus.access.accounts import accounts
from shared.bus.access.roles import Role
from tests.support.nats.server import NatsServer


class AccountsServer(NatsServer):
    """A `NatsServer` on which each role has its password and its rights."""

    def __init__(self, folder: Path | None = None) -> None:
        passwords = {role: f"{role}-password" for role in Role}
        super().__init__(folder, config=f"accounts: {orjson.dumps(accounts(passwords)).decode()}")

    @property
    def owner_url(self) -> str:
        return self.url_of(Role.OWNER)

    def url_of(self, role: Role) -> str:
        """Where a role connects to."""
        return self.url_for(role, f"{role}-password")
