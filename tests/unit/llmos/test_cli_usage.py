"""What a person sees who mistypes a command: one message that names the argument, exit code 2, no traceback."""

import subprocess
import sys

import pytest


def llmos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from llmos.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["deploy", "smollm2", "--slots", "0"], "--slots"),
        (["deploy", "smollm2", "--draft-tokens", "16"], "--draft-tokens"),
        (["deploy"], "REF"),
        (["deploy", "smollm2", "--no-such-option"], "--no-such-option"),
        (["deplyo"], "deplyo"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_named_in_one_message(arguments, printed):
    done = llmos(*arguments)
    assert done.returncode == 2
    assert printed in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_help_is_no_error():
    done = llmos("deploy", "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
