"""Every command with wrong values that need no system: one line, or the box for wrong usage, and never a traceback.

`tests/e2e/test_what_people_type.py` has those that a system refuses.
"""

from collections.abc import Iterator

import click
import pytest
import typer

from llmos.cli import app
from tests.support.harness.commands import run_commands

BAD_URLS = ("", "localhost:8000", "ftp://x", "http://[::1", "http://x?y")
WRONG = [
    # arguments, and what the complaint says
    (["up", "--port", "0"], "--port"),
    (["up", "--port", "65536"], "--port"),
    (["up", "--port", "x"], "--port"),
    (["deploy", "m", "--name", "Upper"], "--name 'Upper': expected up to 64 lower-case letters"),
    (["deploy", "m", "--name", ""], "--name ''"),
    (["deploy", "m", "--name", "a" * 65], "--name"),
    (["deploy", "m", "--name", "../x"], "--name"),
    (["deploy", "m", "--slots", "1000000"], "--slots"),
    (["deploy", "m", "--replicas", "100000"], "--replicas"),
    (["deploy", "m", "--replicas", "-1"], "--replicas"),
    (["deploy", "m", "--replicas", "1.5"], "--replicas"),
    (["deploy", "m", "--max-len", "9" * 30], "--max-len"),
    (["deploy", "m", "--threads", "9" * 30], "--threads"),
    (["deploy", "m", "--max-wait", "nan"], "--max-wait"),
    (["deploy", "m", "--max-wait", "inf"], "--max-wait"),
    (["deploy", "m", "--prefix-cache", "9999999GiB"], "--prefix-cache"),
    (["deploy", "m", "--prefix-cache", "9" * 400 + "GiB"], "--prefix-cache"),
    (["deploy", "m", "--prefix-cache", "-1"], "--prefix-cache"),
    (["deploy", "m", "--prefix-cache", "lots"], "--prefix-cache"),
    (["deploy", "m", "--device", "[/tpu]"], "[/tpu]"),
    (["chat", "m", "x", "--temperature", "3"], "--temperature"),
    (["chat", "m", "x", "--temperature", "nan"], "--temperature"),
    (["chat", "m", "x", "--max-tokens", "0"], "--max-tokens"),
    (["chat", "m", ""], "nothing to ask"),
    (["chat", "m"], "nothing to ask"),
    (["chat", "m", "-m", " "], "nothing to ask"),
    (["chat", "m", "a", "-m", "b"], "either TEXT or --message"),
    (["complete", "m", "x", "--max-tokens", "x"], "--max-tokens"),
    (["complete", "m"], "text"),
    (["embed", "m"], "no text given"),
    (["embed", "m", "x", "--dimensions", "0"], "--dimensions"),
    (["logs", "-n", "-1"], "--lines"),
    (["logs", "../x"], "no log of '../x'"),
    (["logs", "[/x]"], "no log of '[/x]'"),
    (["trace", "xyz"], "32 hexadecimal digits"),
    (["trace", "../x"], "32 hexadecimal digits"),
    (["undeploy", "../models/victim"], "there is no deployment '../models/victim'"),
    (["undeploy", ".."], "there is no deployment '..'"),
    (["undeploy", ""], "there is no deployment ''"),
    (["undeploy", "a\nb"], "there is no deployment 'a\\nb'"),
    (["undeploy", "\udcff"], "is not text"),
    (["model", "show", "../keys"], "there is no model '../keys'"),
    (["model", "delete", "m/aliases/prod", "--yes"], "there is no model 'm/aliases/prod'"),
    (["model", "alias", "m", "1"], "expected NAME@ALIAS"),
    (["model", "alias", "m@a"], "version number or --remove"),
    (["model", "alias", "m@a", "1", "--remove"], "version number or --remove"),
    (["model", "alias", "m@../b", "1"], "there is no alias '../b'"),
    (["model", "alias", "m/x@a", "--remove"], "there is no model 'm/x'"),
    (["model", "alias", "m@a", "x"], "version"),
    (["model", "import", "x", "--name", "A B"], "--name 'A B'"),
    (["model", "import", "x", "--name", "m", "--alias", "A"], "--alias 'A'"),
    (["model", "import", "x", "--name", "m", "--quantize", "int3"], "--quantize"),
    (["model", "import", "x"], "--name"),
    (["key", "create", "x", "--scope", "root"], "--scope"),
    (["key", "revoke", "../x"], "there is no key '../x'"),
    (["data", "import", "x.jsonl", "--name", "A B"], "--name 'A B'"),
    (["data", "import", "nosuch.jsonl", "--name", "m"], "nosuch.jsonl: no such file"),
    (["data", "import", "x.pdf", "--name", "m"], "x.pdf: expected a file of rows"),
    (["data", "import", __file__, "--name", "m"], "expected a file of rows"),
    (["data", "check", "nosuch.jsonl"], "nosuch.jsonl: no such file"),
    (["data", "check", "m", "--as", "alpacca"], "did you mean 'alpaca'"),
    (["data", "check", "m", "--max-tokens", "5"], "--max-tokens needs --tokenizer"),
    (["data", "check", "m", "--region", "Europe"], "region 'EUROPE'"),
    (["data", "check", "m", "--near", "2"], "--near"),
    (["data", "prepare", "m", "--near", "0.1"], "--near"),
    (["data", "prepare", "m", "--private", "hide"], "expected mask or drop, found 'hide'"),
    (["data", "prepare", "m", "--private", "mask", "--private-kinds", "mail"], "kinds: mail"),
    (["data", "prepare", "m", "--language", "english"], "'english' is not known"),
    (["data", "prepare", "m", "--max-tokens", "5"], "max_tokens needs a tokenizer"),
    (["data", "prepare", "m", "--swap", "nurse"], "word:word"),
    (["data", "prepare", "m", "--mix", "other=half"], "--mix other=half: expected REF=SHARE"),
    (["data", "prepare", "m", "--validation", "0.6", "--test", "0.5"], "sum is below 1"),
    (["data", "prepare", "m", "--recipe", "nosuch.toml"], "--recipe nosuch.toml"),
    (["data", "prepare", "m", "--name", "A B"], "--name 'A B'"),
    (["data", "prepare", "m", "--job", "--alias", "prod"], "--job goes with neither"),
    (["data", "prepare", "m", "--job", "--private", "hide"], "expected mask or drop"),
    (["data", "query", "m", "drop table rows"], "expected one SELECT"),
    (["data", "query", "m", "selec 1"], "the query can't be run"),
    (["data", "export", "m", "x", "--format", "xml"], "--format xml"),
    (["data", "sample", "m", "-n", "0"], "--count"),
    (["data", "show", "../keys"], "there is no dataset '../keys'"),
    (["data", "alias", "m", "1"], "expected NAME@ALIAS"),
    (["nosuch"], "nosuch"),
    (["model", "nosuch"], "nosuch"),
    (["status", "--nosuch"], "--nosuch"),
]
"""With an address that nothing answers at: what is wrong must be seen before."""


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands, with their words."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def needed(command: click.Command) -> list[str]:
    """Values for the arguments and options that a command requires."""
    given = []
    for parameter in command.params:
        if parameter.required:
            value = {"name": "m@a", "sql": "select 1", "tool": "optimum"}.get(parameter.name or "", "x")
            given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return given


def test_the_commands_are_found():
    assert {("deploy",), ("model", "import"), ("key", "revoke"), ("node", "list")} <= set(COMMANDS)


def test_wrong_values_are_one_line_each(tmp_path):
    env = {"LLMOS_HOME": str(tmp_path), "LLMOS_URL": "http://127.0.0.1:1", "LLMOS_API_KEY": "k"}
    for done, (_, says) in zip(run_commands([arguments for arguments, _ in WRONG], env), WRONG, strict=True):
        assert says in done.complaint, done


@pytest.mark.parametrize(
    ("option", "values", "says"),
    [
        ("--url", BAD_URLS[1:], "--url"),
        ("--api-key", ("é", "a b", "k\u2028k"), "--api-key is not a key"),
        ("--home", ("", "~nosuchuser/x", "/etc/hosts"), "home"),
    ],
)
def test_every_command_takes_its_common_options_seriously(tmp_path, option, values, says):
    with_option = {words: command for words, command in COMMANDS.items() if option in options(command)}
    assert len(with_option) > 10
    tried = [
        [*words, *needed(command), *extra(words), *common(command, option), option, value]
        for words, command in with_option.items()
        for value in values
    ]
    for done in run_commands(tried, {"LLMOS_HOME": str(tmp_path)}):
        assert says in done.complaint, done


def extra(words: tuple[str, ...]) -> list[str]:
    """What a command needs beyond its required parameters to get as far as its common options."""
    return {
        ("chat",): ["x", "-m", "x"],
        ("embed",): ["x"],
        ("model", "alias"): ["1"],
        ("model", "delete"): ["-y"],
        ("data", "alias"): ["1"],
        ("data", "delete"): ["-y"],
        ("gate",): ["--against", "x"],
    }.get(words, [])


def common(command: click.Command, option: str) -> list[str]:
    """An address for the commands that need one."""
    return ["--url", "http://127.0.0.1:1"] if option == "--api-key" and "--url" in options(command) else []


def test_help_says_the_defaults_that_it_has(tmp_path):
    done = run_commands([["deploy", "--help"], ["logs", "--help"]], {"LLMOS_HOME": str(tmp_path)})
    assert "[default: ~/.llmos]" in done[0].out
    assert "[default: the home's system]" in done[0].out
    assert "[default: all]" in done[1].out
