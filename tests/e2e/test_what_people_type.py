"""Wrong values that only a running system refuses. `tests/unit/llmos/test_wrong_values.py` has the others."""

import pytest

from llmos.cli.demo import demo_gguf
from tests.support.harness.commands import run_commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = "9" * 26
WRONG = [
    (["up", "--no-demo"], "already runs"),
    (["deploy", ""], "'' is not a model reference"),
    (["deploy", "smollm2@@"], "not a model reference"),
    (["deploy", "smollm2:0"], "'smollm2:0' is not a model reference"),
    (["deploy", "smollm2:7"], "no version smollm2:7"),
    (["deploy", "smollm2@nosuch"], "no alias smollm2@nosuch"),
    (["deploy", "[/red]"], "'[/red]' is not a model reference"),
    (["deploy", "é"], "not a model reference"),
    (["deploy", "smollm2", "--max-len", "1000000"], "max_len 1000000"),
    (["deploy", "smollm2", "--device", "cuda"], "device"),
    (["undeploy", "Upper"], "there is no deployment 'Upper'; deployments: smollm2"),
    (["undeploy", "%2e%2e"], "there is no deployment '%2e%2e'"),
    (["undeploy", "*"], "there is no deployment '*'"),
    (["model", "show", "x[/y]"], "there is no model 'x[/y]'"),
    (["model", "show", "smollm2?x=1#f"], "not a model reference"),
    (["model", "show", f"smollm2:{LONG}"], "not a model reference"),
    (["model", "delete", "smollm2", "-y"], "in use"),
    (["model", "delete", "smollm2@prod", "-y"], "is an alias"),
    (["model", "delete", "nosuch", "-y"], "no model 'nosuch'"),
    (["model", "alias", "smollm2@prod", "0"], "version"),
    (["model", "alias", "smollm2@prod", "--", "-5"], "version"),
    (["model", "alias", "smollm2@prod", LONG], f"no version smollm2:{LONG}"),
    (["model", "alias", "smollm2@Prod", "1"], "alias: expected up to 64 lower-case letters"),
    (["model", "alias", "smollm2@a@b", "1"], "alias: expected"),
    (["model", "alias", "smollm2@nosuch", "--remove"], "no alias smollm2@nosuch"),
    (["model", "import", "/nowhere/[/x].gguf", "--name", "x"], "/nowhere/[/x].gguf: no such file"),
    (["model", "import", "~nosuchuser/x", "--name", "x"], "no such file"),
    (["model", "import", "a" * 5000, "--name", "x"], "no such file"),
    (["model", "import", "hf:../x", "--name", "x"], "expected hf:org/name"),
    (["model", "import", str(demo_gguf().parent), "--name", "x"], "expected a .gguf file"),
    (["key", "create", ""], "name"),
    (["key", "create", "x" * 200], "name"),
    (["key", "revoke", "a b"], "there is no API key 'a b'"),
    (["key", "revoke", "nosuch"], "there is no API key 'nosuch'"),
    (["chat", "nosuch", "-m", "x"], "the model 'nosuch' does not exist"),
    (["chat", "../[/x]", "-m", "x"], "the model '../[/x]' does not exist"),
    (["chat", "smollm2", "-m", "x", "--max-tokens", LONG], "max_tokens"),
    (["complete", "smollm2", ""], "no tokens"),
    (["complete", "smollm2", "x", "--max-tokens", "100000000"], "max_tokens"),
    (["embed", "smollm2", "x"], "generates text"),
    (["embed", "nosuch", "x", "--dimensions", LONG], "the model 'nosuch' does not exist"),
    (["trace", "0" * 32], "there is no trace"),
    (["logs", "nosuch"], "no log of 'nosuch'"),
    (["logs", "*"], "no log of '*'"),
    (["status", "--api-key", "llmos-wrong", "--url"], "API key"),
]


def test_wrong_values_are_one_line_each_and_change_nothing(demo):
    before = demo.json("model", "list"), demo.json("deployments")[0]["deployment"]
    tried = [[*arguments, demo.url] if arguments[-1] == "--url" else arguments for arguments, _ in WRONG]
    for done, (_, says) in zip(run_commands(tried, {"LLMOS_HOME": str(demo.home.root)}), WRONG, strict=True):
        assert says in done.complaint, done
    assert (demo.json("model", "list"), demo.json("deployments")[0]["deployment"]) == before
