import json
from pathlib import Path

from services.inference.agent.replica_process import last_log_line, replica_environment
from shared.contracts.scheduler import ReplicaAssignment


def test_the_replica_gets_its_assignment_and_keeps_within_its_threads():
    assignment = ReplicaAssignment.EXAMPLE
    environment = replica_environment(
        assignment, node="node-a", drain_timeout=30.0, nats_url="nats://h", files=Path("/files")
    )
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


def test_a_json_line_is_reduced_to_its_error_or_else_its_event(tmp_path):
    log = tmp_path / "log"
    log.write_text(json.dumps({"event": "service.start_failed", "error": "no such blob", "level": "error"}))
    assert last_log_line(log) == "no such blob"
    log.write_text(json.dumps({"event": "service.stopped", "level": "info"}))
    assert last_log_line(log) == "service.stopped"


def test_a_long_line_is_cut_and_says_so(tmp_path):
    log = tmp_path / "log"
    log.write_text("x" * 10_000)
    assert last_log_line(log) == "x" * 299 + "…"


def test_without_a_log_there_is_no_line(tmp_path):
    assert last_log_line(tmp_path / "none") == ""
    (tmp_path / "empty").touch()
    assert last_log_line(tmp_path / "empty") == ""
