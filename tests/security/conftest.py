"""What is attacked: the gateway and the replica of the integration tests, and a bus with the accounts of services."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.conftest import small_store
from tests.integration.gateway.conftest import gateway_settings, server, spans, stand
from tests.integration.replica.conftest import client, start_replica
from tests.support.nats.accounts import AccountsServer
from tests.support.nats.wiretap import Wiretap

__all__ = ["client", "gateway_settings", "server", "small_store", "spans", "stand", "start_replica"]


@pytest.fixture(scope="module")
def accounts() -> Iterator[AccountsServer]:
    """A nats-server as `llmos up` configures it, one for each file of tests."""
    with AccountsServer() as running:
        yield running


@pytest.fixture
async def tap(accounts: AccountsServer) -> AsyncIterator[Wiretap]:
    """Listens as every service."""
    async with Wiretap.on(accounts) as listening:
        yield listening
