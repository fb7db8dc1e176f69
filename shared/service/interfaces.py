"""The network interfaces of this machine, or of the container that this process is in."""

import ipaddress
from contextlib import suppress
from pathlib import Path

import psutil

from shared.errors import InvalidInput

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = Path("/proc/self/ns/net")


def interface_of(address: str) -> str:
    """The name of the interface that has an IP address.

    Raises:
        InvalidInput: It is no IP address, or none of this machine.
    """
    try:
        desired = ipaddress.ip_address(address)
    except ValueError:
        raise InvalidInput(f"{address!r} is no IP address; expected one of {_own()}") from None
    for name, given in psutil.net_if_addrs().items():
        for one in given:
            with suppress(ValueError):  # a MAC address
                if ipaddress.ip_address(one.address.partition("%")[0]) == desired:
                    return name
    raise InvalidInput(f"no network interface has the address {address}; expected one of {_own()}")


def loopback_network() -> str:
    """Names the loopback interface of this process: the boot of the machine and the network namespace.

    Processes with the same name reach one another by loopback. Empty where the system does not name both.
    """
    with suppress(OSError):
        return f"{_BOOT.read_text().strip()}/{_NETWORK.readlink().name}"
    return ""


def _own() -> str:
    found = []
    for given in psutil.net_if_addrs().values():
        for one in given:
            with suppress(ValueError):
                if not ipaddress.ip_address(one.address).is_link_local:
                    found.append(one.address)
    return ", ".join(found)
