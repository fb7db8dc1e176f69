import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.inference.agent.machine import offering
from shared.contracts.resources import Resources
from shared.errors import Conflict, InvalidInput, Unavailable

MACHINE = Resources(memory=24_000, threads=4)
HALF = Resources(memory=12_000, threads=2)


def offer(folder: Path, offered: Resources = HALF, kind: str = "node", node_id: str | None = None):
    return offering(folder, offered, MACHINE, kind, node_id)


def test_nodes_that_fit_together_have_different_ids(tmp_path):
    with offer(tmp_path) as first, offer(tmp_path) as second:
        assert first != second
        assert first.startswith("node-")


@pytest.mark.parametrize("offered", [Resources(memory=12_001, threads=2), Resources(memory=12_000, threads=3)])
def test_a_node_that_would_promise_the_machine_twice_is_refused_and_told_what_to_set(tmp_path, offered):
    with offer(tmp_path) as first, pytest.raises(InvalidInput) as refused, offer(tmp_path, offered):
        pass
    said = refused.value.message
    assert f"would offer {offered.memory} bytes and {offered.threads} threads" in said
    assert f"of which {first} offers 12000 bytes and 2 threads" in said
    assert "LLMOS_INFERENCE_MEMORY and LLMOS_INFERENCE_THREADS" in said


def test_a_node_that_ended_no_longer_counts_and_the_next_one_has_its_id(tmp_path):
    with offer(tmp_path, MACHINE) as before:
        pass
    with offer(tmp_path, MACHINE) as after:
        assert after == before


def test_ids_stay_over_a_restart_of_several_nodes(tmp_path):
    with offer(tmp_path) as first, offer(tmp_path) as second:
        pass
    with offer(tmp_path) as third, offer(tmp_path) as fourth:
        assert {third, fourth} == {first, second}


def test_a_node_takes_no_id_of_another_kind(tmp_path):
    with offer(tmp_path) as before:
        pass
    with offer(tmp_path, kind="gpu") as gpu:
        assert gpu != before
        assert gpu.startswith("gpu-")


def test_an_id_that_a_person_gave_is_held_once(tmp_path):
    with offer(tmp_path, node_id="left") as given:
        assert given == "left"
        with pytest.raises(Conflict, match="'left'"), offer(tmp_path, node_id="left"):
            pass


def test_a_killed_process_lets_go(tmp_path):
    program = (
        "import sys; from pathlib import Path; from services.inference.agent.machine import offering;"
        "from shared.contracts.resources import Resources; r = Resources(memory=24000, threads=4)\n"
        "with offering(Path(sys.argv[1]), r, r, 'node', None) as held: print(held, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        held = process.stdout.readline().strip()
        try:
            with pytest.raises(InvalidInput), offer(tmp_path):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    with offer(tmp_path, MACHINE) as next_one:
        assert next_one == held


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="LLMOS_INFERENCE_MACHINE_DIR"), offer(tmp_path / "file"):
        pass
