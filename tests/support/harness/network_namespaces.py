"""Network namespaces: machines for a test, as far as addresses and loopback go."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Namespaces on one bridge, which this process is on too."""

    here: str
    """The address of this process."""
    addresses: Mapping[str, str]
    """Of each namespace, by its name."""

    def command(self, name: str, *argv: str) -> list[str]:
        """The command that runs `argv` in a namespace."""
        return ["ip", "netns", "exec", _full(name), *argv]


@contextmanager
def network_namespaces(*names: str) -> Iterator[Namespaces]:
    """Namespaces with these names; skips the test where they can't be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    pid = os.getpid()
    subnet, bridge = f"198.18.{pid % 254 + 1}", f"llmos{pid}"[:15]
    with ExitStack() as stack:
        if _ip("link", "add", bridge, "type", "bridge", check=False) != 0:
            pytest.skip("this system makes no bridge between network namespaces")
        stack.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        addresses = {}
        for number, name in enumerate(names, 2):
            space, cable = _full(name), f"llm{number}-{pid}"[:15]
            _ip("netns", "add", space)
            stack.callback(_ip, "netns", "delete", space)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "inside", "netns", space)
            _ip("link", "set", cable, "master", bridge, "up")
            _ip("-n", space, "address", "add", f"{subnet}.{number}/24", "dev", "inside")
            for device in ("lo", "inside"):
                _ip("-n", space, "link", "set", device, "up")
            addresses[name] = f"{subnet}.{number}"
        yield Namespaces(f"{subnet}.1", addresses)


def _full(name: str) -> str:
    return f"llmos-{os.getpid()}-{name}"


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=20)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode
