"""Which interface has an address, and which processes share a loopback."""

import subprocess
import sys

import psutil
import pytest

from shared.errors import InvalidInput
from shared.service.interfaces import interface_of, loopback_network


def _loopback() -> str:
    """The interface that has 127.0.0.1, as psutil names it."""
    return next(
        name for name, given in psutil.net_if_addrs().items() if any(one.address == "127.0.0.1" for one in given)
    )


def test_the_interface_of_an_address_is_named():
    assert interface_of("127.0.0.1") == _loopback()


def test_every_address_of_this_machine_leads_to_an_interface_that_has_it():
    for given in psutil.net_if_addrs().values():
        for one in given:
            address = one.address.partition("%")[0]
            if one.family.name in {"AF_INET", "AF_INET6"}:
                name = interface_of(address)
                assert address in {other.address.partition("%")[0] for other in psutil.net_if_addrs()[name]}


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:80", "300.1.1.1"])
def test_what_is_no_address_is_refused_and_the_own_ones_are_named(text):
    with pytest.raises(InvalidInput, match=r"is no IP address; expected one of .*127\.0\.0\.1"):
        interface_of(text)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(InvalidInput, match=r"no network interface has the address 192\.0\.2\.7; expected one of "):
        interface_of("192.0.2.7")  # of the range that is for documentation


def test_processes_of_one_machine_name_the_same_loopback():
    code = "from shared.service.interfaces import loopback_network; print(loopback_network())"
    other = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == loopback_network() != ""
