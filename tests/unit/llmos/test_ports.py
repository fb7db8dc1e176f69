"""Ports of an embedded system: those of the last start where they are free, and never one twice."""

import pytest

from llmos.embedded import ports
from llmos.home import Home, Ports


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path / "home")


@pytest.fixture
def taken(monkeypatch):
    found: set[int] = set()
    monkeypatch.setattr(ports, "is_free", lambda port: port not in found)
    return found


def test_the_first_start_takes_the_usual_ports(home, taken):
    chosen = ports.choose(home, None)
    assert (chosen.http, chosen.grpc) == (8000, 8001)
    assert ports.choose(home, None) == chosen


def test_a_port_that_is_taken_is_replaced_and_stays(home, taken):
    taken |= {8000, 8001}
    chosen = ports.choose(home, None)
    assert not {chosen.http, chosen.grpc} & taken
    taken.clear()
    again = ports.choose(home, None)
    assert (again.http, again.grpc) == (chosen.http, chosen.grpc)


def test_http_on_grpcs_port_moves_grpc(home, taken):
    chosen = ports.choose(home, 8001)
    assert chosen.http == 8001
    assert chosen.grpc != 8001


def test_a_home_of_an_earlier_llmos_gets_a_port(home, taken):
    home.write_ports(Ports(http=8100, nats=4333))
    assert ports.choose(home, None).grpc == 8001
