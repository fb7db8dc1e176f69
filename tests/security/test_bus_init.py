"""`llmos bus init` makes a bus ready for services that may make nothing themselves."""

import os
import subprocess

from shared.bus.access.roles import Role
from shared.bus.connect import connect
from shared.service.python import python_module
from tests.support.nats.accounts import AccountsServer


class EmptyServer(AccountsServer):
    """With accounts, and nothing made on it."""

    owner_url = None


def bus_init(url: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LLMOS_NATS_URL": url}
    return subprocess.run(
        python_module("llmos", "bus", "init"), env=environment, capture_output=True, text=True, check=False
    )


async def test_it_makes_what_services_use_and_may_run_again():
    with EmptyServer() as server:
        for _ in range(2):
            done = bus_init(server.url_of(Role.OWNER))
            assert done.returncode == 0, done.stderr
            assert "buckets, streams and consumers" in done.stdout
        gateway = await connect(server.url_of(Role.GATEWAY), name="gateway")
        assert await gateway.kv("LLMOS_TENANTS").put("key", b"record") == 1
        await gateway.drain()


def test_a_service_that_tries_gets_one_line_that_names_what_it_may_not():
    with EmptyServer() as server:
        done = bus_init(server.url_of(Role.GATEWAY))
    assert done.returncode == 1
    assert "check its NATS credentials" in done.stderr
    assert "Traceback" not in done.stderr
