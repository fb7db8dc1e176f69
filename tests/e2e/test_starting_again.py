"""State that must survive, and what must not be left behind."""

import pytest

from tests.support.harness.embedded import Embedded, until
from tests.support.harness.processes import is_alive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_models_and_deployments_survive_a_restart_and_nothing_is_left_running(demo):
    first = demo.ask()
    created = demo.json("model", "show", "smollm2")["created_at"]
    assert demo.stop() == 0, demo.output
    until(lambda: not demo.processes(), 20, "no process left")
    demo.start()
    assert "importing" not in demo.output
    assert demo.json("model", "show", "smollm2")["created_at"] == created
    assert demo.ask() == first


def test_killing_the_launcher_leaves_no_process_and_the_next_start_works(tmp_path):
    system = Embedded(tmp_path, demo=False).start()
    pids = set(system.processes())
    assert len(pids) >= 7
    system.kill()
    until(lambda: not system.processes(), 10, "no orphan")
    until(lambda: not [pid for pid in pids if is_alive(pid)], 10, "no process of it, not even one that ends")
    with system:
        assert system.json("model", "list") == []


def test_detached_start_and_down(tmp_path):
    system = Embedded(tmp_path, demo=False)
    started = system.cli("up", "--detach", "--no-demo", "--port", str(system.port))
    assert started.returncode == 0, started.stderr
    assert "ready at" in started.stdout
    assert "already running" in system.cli("up", "--detach").stdout
    assert system.cli("down").stdout.strip().endswith("stopped")
    until(lambda: not system.processes(), 10, "no process left")
    assert "nothing runs" in system.cli("down").stdout


def test_a_port_in_use_is_one_clear_line(tmp_path, nats_url):
    port = nats_url.rsplit(":", 1)[1]
    system = Embedded(tmp_path, demo=False)
    done = system.cli("up", "--no-demo", "--port", port)
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert "--port" in done.stderr


def test_commands_without_a_running_system_say_how_to_start_one(tmp_path):
    done = Embedded(tmp_path, demo=False).cli("status")
    assert done.returncode == 1
    assert "llmos up" in done.stderr
