"""What the name of a host says about where it is."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine: no proxy can reach it in this process's place.

    Args:
        host: A name, an IPv4 address, or an IPv6 address with or without brackets.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_nearby(host: str) -> bool:
    """Whether `host` is this machine or, being a name without a dot, on its own network, as a container's name is."""
    return is_loopback(host) or ("." not in host.rstrip(".") and ":" not in host)
