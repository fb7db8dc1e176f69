import json

import pytest

from services.inference.agent.replica_process import last_log_line, replica_environment
from services.inference.settings import MEMORY_SHARE, Settings, available_memory, host_node_id
from shared.contracts.scheduler import ReplicaAssignment


def test_the_replica_gets_its_assignment_and_keeps_within_its_threads():
    assignment = ReplicaAssignment.EXAMPLE
    environment = replica_environment(assignment, node="node-a", drain_timeout=30.0)
    assert ReplicaAssignment.decode(environment["LLMOS_REPLICA_ASSIGNMENT"].encode()) == assignment
    assert environment["LLMOS_NODE_ID"] == "node-a"
    assert environment["LLMOS_INSTANCE"] == assignment.id
    assert environment["OMP_NUM_THREADS"] == "2"


def test_the_last_line_with_text_is_found(tmp_path):
    log = tmp_path / "log"
    log.write_text("Traceback\n  File x\nModuleNotFoundError: No module named 'numpy'\n\n")
    assert last_log_line(log) == "ModuleNotFoundError: No module named 'numpy'"


def test_the_frame_around_a_grouped_traceback_is_left_out(tmp_path):
    log = tmp_path / "log"
    log.write_text("  | ExceptionGroup: 1\n    | TypeError: no max_len\n    +------------------------------------\n")
    assert last_log_line(log) == "TypeError: no max_len"


def test_of_a_json_line_event_and_error_are_told(tmp_path):
    log = tmp_path / "log"
    log.write_text(json.dumps({"event": "service.start_failed", "error": "no such blob", "level": "error"}))
    assert last_log_line(log) == "service.start_failed: no such blob"


def test_a_long_line_is_cut_and_says_so(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 10_000)
    assert last_log_line(log) == "x" * 299 + "…"


def test_without_a_log_there_is_no_line(tmp_path):
    assert last_log_line(tmp_path / "none") == ""
    (tmp_path / "empty").touch()
    assert last_log_line(tmp_path / "empty") == ""


def test_the_host_name_becomes_a_valid_node_id(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Annas_MacBook-Pro.local")
    assert host_node_id() == "annas-macbook-pro"
    monkeypatch.setattr("socket.gethostname", lambda: "___")
    assert host_node_id() == "node"


def test_a_node_offers_memory_and_threads_of_its_machine_unless_told(monkeypatch):
    monkeypatch.setenv("LLMOS_INFERENCE_THREADS", "3")
    settings = Settings()
    assert settings.threads == 3
    assert settings.memory > 0


def test_the_replica_command_is_read_as_a_list(monkeypatch):
    monkeypatch.setenv("LLMOS_INFERENCE_REPLICA_COMMAND", '["python", "x.py"]')
    assert Settings().replica_command == ("python", "x.py")


@pytest.mark.parametrize(
    ("agent", "replica", "expected"), [(40.0, 30.0, 30.0), (20.0, 30.0, 13.0), (40.0, 5.0, 5.0), (1.0, 30.0, 0.1)]
)
def test_replicas_drain_within_the_agents_own_drain(agent, replica, expected):
    settings = Settings(drain_timeout=agent, replica_drain_timeout=replica)
    assert settings.replica_drain == expected
    assert Settings().replica_drain == Settings().replica_drain_timeout, "the defaults fit one another"


def test_in_a_container_the_containers_limit_counts(tmp_path):
    machine = available_memory(tmp_path)
    assert machine > 200 << 20
    (tmp_path / "memory.max").write_text("200000000\n")
    (tmp_path / "memory.current").write_text("130000000\n")
    (tmp_path / "memory.stat").write_text("anon 50000000\nactive_file 30000000\ninactive_file 50000000\n")
    assert available_memory(tmp_path) == int(150_000_000 * MEMORY_SHARE)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 200 << 20
