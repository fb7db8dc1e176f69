"""Makes a new admin key for an embedded system whose own is lost or revoked: the home's bus passwords allow it."""

from llmos.embedded import nats
from llmos.home import Home, write_private
from services.gateway.keys import KeyStore
from shared.audit.person import person
from shared.audit.trail import Trail
from shared.bus.access.roles import Role
from shared.bus.connect import connect
from shared.contracts.events import CHAINS
from shared.contracts.gateway import ApiKey, Scope
from shared.errors import Conflict, Unauthenticated, Unavailable

ADVICE = "'llmos key recover' on this machine makes a new admin key"
CONNECT_S = 10.0


async def recover(home: Home) -> ApiKey:
    """Record a new admin key and write it into the home's key file; says so in the events of keys.

    Raises:
        Unavailable: No system runs from the home.
        Conflict: The key in the file works.
    """
    ports = home.ports()
    if home.holder() is None or ports is None:
        raise Unavailable(f"no LLMOS runs from {home.root}; start it with 'llmos up': a start needs no key")
    password = home.bus_passwords(nats.USERS)[Role.GATEWAY]
    bus = await connect(nats.user_url(ports.nats, Role.GATEWAY, password), name="key recovery", timeout=CONNECT_S)
    try:
        async with KeyStore(bus, Trail(bus, CHAINS["keys"], actor="llmos key recover")).running() as keys:
            await keys.wait_synced()
            if _administers(keys, home.admin_key()):
                raise Conflict(
                    f"the admin key in {home.key_file} works; make another with 'llmos key create NAME --scope admin'"
                )
            record, key = await keys.create(
                "recovered admin key", (Scope.ADMIN,), by=f"{person()}, by 'llmos key recover'", event="key.recovered"
            )
    finally:
        await bus.drain()
    write_private(home.key_file, key + "\n")
    return record


def _administers(keys: KeyStore, key: str | None) -> bool:
    try:
        return Scope.ADMIN in keys.check(key).scopes
    except Unauthenticated:
        return False
