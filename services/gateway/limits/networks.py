"""Networks that are named in settings: of proxies whose headers are believed."""

import ipaddress
from collections.abc import Iterable


class Networks:
    """IP networks.

    Args:
        names: Each an address (`10.0.0.7`) or a network (`10.0.0.0/8`).

    Raises:
        ValueError: One of them is neither.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        self._networks = tuple(ipaddress.ip_network(name) for name in self.names)

    def __contains__(self, host: str) -> bool:
        """Whether an address is in one of them; a name is in none."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)

    def __add__(self, others: "Networks") -> "Networks":
        return Networks((*self.names, *others.names))


NOWHERE = Networks()
LOOPBACK = Networks(("127.0.0.0/8", "::1/128"))
"""This machine."""
