"""LLMOS where the environment is set up for other programs: proxies, certificates, homes and terminals."""

import os
import subprocess
from pathlib import Path

import pytest

from shared.service.python import python_module
from tests.support.harness.embedded import Embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEAD = "http://127.0.0.1:9"
HOSTILE = {
    "HTTP_PROXY": DEAD,
    "http_proxy": DEAD,
    "https_proxy": DEAD,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "grpc_proxy": DEAD,
    "NO_PROXY": "",
    "SSL_CERT_FILE": "/nonexistent.pem",
    "HOME": "",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
}


def test_a_system_starts_works_and_stops_in_an_environment_that_is_against_it(tmp_path):
    system = Embedded(tmp_path / "caf\xe9 [/x]", demo=False, env=HOSTILE)
    try:
        started = system.cli("up", "--detach", "--no-demo", "--port", str(system.port))
        assert started.returncode == 0, started.stderr
        status = system.cli("status")
        assert status.returncode == 0, status.stderr
        assert "gateway" in status.stdout
        assert system.json("model", "list") == []
    finally:
        assert system.cli("down").returncode == 0


@pytest.mark.parametrize("name", [*HOSTILE, "SSLKEYLOGFILE", "all_proxy"])
def test_each_variable_alone_does_no_harm(demo, name):
    done = demo.cli("status", env={name: HOSTILE.get(name, "nonsense://")})
    assert done.returncode == 0, done.stderr
    assert "smollm2: smollm2:1, 1 of 1 ready" in done.stdout


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that root can't write to")
def test_a_home_that_can_not_be_written_is_one_line_and_needless_with_a_url(demo):
    def llmos(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": "/sys", "PATH": "/usr/bin", "COLUMNS": "200"}
        command = [*python_module("llmos"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    for arguments in (("up", "--no-demo"), ("up", "--no-demo", "--detach"), ("up", "--home", "/sys")):
        done = llmos(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: --home /sys")
        assert len(done.stderr.splitlines()) == 1
    assert llmos("status", "--url", demo.url, "--api-key", demo.key).returncode == 0


def test_a_name_with_markup_is_listed_as_it_is(demo):
    for name in ("ops [/prod]", "[bold]x", ":cat: é"):
        created = demo.json("key", "create", name)
        try:
            listed = demo.cli("key", "list")
            assert listed.returncode == 0, listed.stderr
            assert name in listed.stdout
        finally:
            assert demo.cli("key", "revoke", created["id"]).returncode == 0
        assert "revoked" in demo.cli("key", "list").stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_that_is_not_utf8_gets_an_answer(demo, encoding):
    sampling = ("--max-tokens", "8", "--temperature", "0", "--home", str(demo.home.root))
    done = subprocess.run(
        [*python_module("llmos"), "complete", "smollm2", "Emoji: 😀😀😀😀😀", *sampling],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert b"?" in done.stdout
    assert b"8 tokens" in done.stderr


@pytest.mark.parametrize("command", ["chat", "embed"])
def test_bytes_that_are_no_text_are_refused_in_one_line(demo, command):
    piped = subprocess.run(
        [*python_module("llmos"), command, "smollm2", "--home", str(demo.home.root)],
        input=b"caf\xe9\n",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert piped.returncode == 1
    assert piped.stderr.decode() == (
        "error: standard input is not text in utf-8 (byte 3); convert it, with iconv for example\n"
    )
    option = "-m" if command == "chat" else "--"
    typed = demo.cli(
        command, "smollm2", "--max-tokens" if command == "chat" else "--dimensions", "3", option, "caf\udce9"
    )
    assert typed.returncode == 1
    assert typed.stderr.startswith("error: the argument 'caf\\udce9' is not text")
