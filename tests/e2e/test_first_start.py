"""What a person sees in the first minute."""

import re

import pytest

from tests.support.harness.embedded import BRIEF

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_first_start_answers_a_question_and_says_ready(demo):
    assert "Paris" in demo.output
    assert re.search(r"8 tokens( · [\d.]+ tokens/s)? · first after [\d.]+ s", demo.output)
    assert re.search(r"ready in [\d.]+ s", demo.output)
    assert str(demo.home.key_file) in demo.output


def test_first_start_prints_the_trace_through_all_services(demo):
    tree = demo.output[demo.output.index("trace ") :]
    for name in ("POST /v1/chat/completions", "queue", "prefill", "decode", "gateway", "replica"):
        assert name in tree


def test_the_key_file_is_private(demo):
    assert demo.home.key_file.stat().st_mode & 0o077 == 0
    assert demo.home.root.stat().st_mode & 0o077 == 0


def test_status_shows_every_service_ready(demo):
    instances = demo.json("status")["instances"]
    up = {item["heartbeat"]["service"] for item in instances if item["up"] and item["heartbeat"]["ready"]}
    assert up == {"registry", "scheduler", "inference", "gateway", "monitor", "replica"}


def test_a_second_up_on_the_same_home_is_refused(demo):
    done = demo.cli("up", "--no-demo")
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert demo.url in done.stderr


def test_chat_in_the_terminal_streams_an_answer(demo):
    done = demo.cli(
        "chat", "smollm2", "-m", "What is the capital of France?", "--system", BRIEF, "--temperature", "0"
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "8 tokens" in done.stderr


def test_logs_name_the_trace(demo):
    assert demo.cli("logs", "gateway", "-n", "5").returncode == 0
    unknown = demo.cli("logs", "nothing")
    assert unknown.returncode == 1
    assert "gateway" in unknown.stderr
