"""`llmos status` tells why a deployment is not ready, in words that say what to change."""

import re

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def unplaceable(demo):
    """A deployment beside the demo's that wants more threads than there are."""
    done = demo.cli("deploy", "smollm2", "--name", "too-wide", "--threads", "4096", "--no-wait", "--allow-unplaced")
    assert done.returncode == 0, done.stderr
    yield "too-wide"
    assert demo.cli("undeploy", "too-wide").returncode == 0


def test_status_says_why_a_deployment_cannot_be_placed(demo, unplaceable):
    done = demo.cli("status")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"{unplaceable}:")]
    assert re.search(r"0 of 1 ready: no node has 4096 threads free: local has \d+", line), line
    assert re.search(r"^smollm2: smollm2:1, 1 of 1 ready$", done.stdout, flags=re.MULTILINE)


def test_a_program_can_read_why(demo, unplaceable):
    deployments = demo.json("status")["deployments"]
    [status] = [item for item in deployments if item["deployment"]["name"] == unplaceable]
    assert status["ready"] == 0
    assert "4096 threads" in status["unplaced"][0]
