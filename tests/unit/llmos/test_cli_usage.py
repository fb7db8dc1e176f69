"""What a person sees who mistypes a command: one message that names the argument, exit code 2, no traceback."""

import sys

import pytest

from llmos.cli import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["deploy", "smollm2", "--slots", "0"], "--slots"),
        (["deploy", "smollm2", "--slots", "many"], "--slots"),
        (["deploy", "smollm2", "--draft-tokens", "16"], "--draft-tokens"),
        (["deploy"], "REF"),
        (["deploy", "smollm2", "--no-such-option"], "--no-such-option"),
        (["deplyo"], "deplyo"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_named_in_one_message(monkeypatch, capsys, arguments, told):
    monkeypatch.setattr(sys, "argv", ["llmos", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llmos", "deploy", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "Examples:" in capsys.readouterr().out
