"""A copy of a home is a home of its own: what is done to it does not reach the original."""

import shutil

import httpx

from tests.support.harness.embedded import Embedded


def alive(system: Embedded) -> bool:
    return httpx.get(f"http://127.0.0.1:{system.port}/healthz", trust_env=False).status_code == 200


def test_a_copy_is_not_the_original(tmp_path) -> None:
    with Embedded(tmp_path / "home", demo=False) as original:
        shutil.copytree(original.home.root, tmp_path / "copy", symlinks=True)
        copy = Embedded(tmp_path / "copy", demo=False)
        assert copy.home.system() is None
        assert "nothing runs from" in copy.cli("down").stdout
        assert alive(original), "down in the copy stops the copy alone"
        with copy:
            assert alive(copy)
            assert copy.home.system().pid != original.home.system().pid
            assert copy.home.system().nats_url != original.home.system().nats_url
        assert alive(original)
