"""`alerts.toml`: what it may say, and what is answered when it says something else."""

from pathlib import Path

import pytest

from services.monitor.alerts.rule_file import AlertsFile, read_alerts_file
from shared.errors import InvalidInput


def read(tmp_path: Path, text: str) -> AlertsFile:
    file = tmp_path / "alerts.toml"
    file.write_text(text)
    return read_alerts_file(file)


def test_without_a_file_all_rules_have_their_defaults() -> None:
    defaults = read_alerts_file(None)
    assert defaults.webhook is None
    assert defaults.rules.error_burn.objective == 0.99


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """
        [webhook]
        url = "http://127.0.0.1:9093"
        labels = { cluster = "berlin" }
        [rules.error_burn]
        objective = 0.999
        [rules.audit_gap]
        enabled = false
        """,
    )
    assert file.webhook is not None
    assert (file.webhook.url, file.webhook.labels) == ("http://127.0.0.1:9093", {"cluster": "berlin"})
    assert (file.rules.error_burn.objective, file.rules.error_burn.fast) == (0.999, 14.4)
    assert not file.rules.audit_gap.enabled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rules.error_burn]\nobjective = 1.5", r"rules\.error_burn\.objective = 1\.5: Input should be less than 1"),
        ("[rules.error_burn]\nobjektive = 0.9", r"no key rules\.error_burn\.objektive; there are: .*objective"),
        ("[rules.latency_burn]\nobjective = 0.9", r"rules\.latency_burn = .*choose fast below 10"),
        ("[rules.burn]\nfast = 2", r"no key rules\.burn; there are: error_burn, latency_burn"),
        ('[webhook]\nurl = "file:///etc/passwd"', r"webhook\.url = 'file:///etc/passwd': String should match"),
        ('[webhook]\nurl = "http://a"\nsecret = 1', r"no key webhook\.secret; there are: url, repeat_s, labels"),
        ('[webhook]\nurl = "http://a"\nlabels = { "a b" = "x" }', r"webhook\.labels\.a b"),
        ("[rules", r"is not TOML: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"alerts\.toml can't be read: No such file"):
        read_alerts_file(tmp_path / "alerts.toml")


def test_the_file_of_the_containers_has_the_defaults_and_examples_that_hold(tmp_path: Path) -> None:
    file = Path(__file__).parents[4] / "deploy" / "alerts.toml"
    assert read_alerts_file(file) == AlertsFile()
    examples = [line.removeprefix("# ") for line in file.read_text().splitlines() if "=" in line or "[" in line]
    filled = read(tmp_path, "\n".join(examples))
    assert filled.webhook is not None
    assert not filled.rules.process_down.enabled
