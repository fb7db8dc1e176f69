"""Homes that can't be, and configuration files that are none: one line each, and no folder made in passing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.config import Target, load_config
from llmos.embedded.logs import last_line
from llmos.home import DEFAULT_HOME, Home
from shared.errors import InvalidInput


@pytest.mark.parametrize("home", ["", None])
def test_a_home_is_found_without_the_variable(monkeypatch, home):
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    owner = subprocess.run(
        [sys.executable, "-c", "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_dir)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert Home.named(DEFAULT_HOME).root == Path(owner.stdout.strip(), ".llmos")


def test_a_user_without_a_home_is_told_to_name_a_folder():
    with pytest.raises(InvalidInput, match="give --home or set HOME"):
        Home.named(Path("~nosuchuser/x"))


def test_naming_a_home_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("LLMOS_URL", raising=False)
    target = Target.resolve(tmp_path / "new", "http://127.0.0.1:1", None)
    with target.client():
        assert not target.home.root.exists()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that root can't write to")
def test_a_home_that_can_not_be_written_is_one_line():
    with pytest.raises(InvalidInput, match="--home /sys can't be written"):
        _ = Home.at(Path("/sys")).logs
    with pytest.raises(InvalidInput, match="--home /sys/new can't be made"):
        Home.at(Path("/sys/new"))


def test_a_file_is_no_home(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidInput, match="--home"):
            Home.at(path)


@pytest.fixture
def config(tmp_path):
    """Writes `config.toml` and reads it into the environment, which is as before after the test."""
    before = set(os.environ)

    def write(content: bytes) -> None:
        (tmp_path / "config.toml").write_bytes(content)
        load_config(Home.at(tmp_path))

    yield write
    for name in set(os.environ) - before:
        del os.environ[name]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("LLMOS_LOG_LEVEL = 'caf\xe9'".encode("latin-1"), "byte 22 is not UTF-8"),
        ("LLMOS_LOG_LEVEL = 'info'".encode("utf-16"), "not UTF-8"),
        (b"LLMOS_LOG_LEVEL: info", "config.toml"),
        (b"a = " + b"[" * 100_000, "config.toml"),
        (b"LLMOS_X = [1]", "LLMOS_X is not a setting"),
        (b"[LLMOS_X]\na = 1", "LLMOS_X is not a setting"),
        (b"log_level = 'info'", "log_level is not a setting"),
        (b"'LLMOS_A=B' = 1", "is not a setting"),
        (b'LLMOS_X = "a\\u0000b"', "LLMOS_X can't be used"),
    ],
    ids=ascii,
)
def test_a_configuration_file_that_is_none_is_named(config, content, says):
    with pytest.raises(InvalidInput, match=r"config\.toml") as caught:
        config(content)
    assert says in caught.value.message


def test_a_byte_order_mark_is_no_part_of_the_first_name(config):
    config("\ufeffLLMOS_A_TEST = 'é'".encode())
    assert os.environ["LLMOS_A_TEST"] == "é"


def test_a_configuration_that_is_a_folder_is_one_line(tmp_path):
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(InvalidInput, match="can't be read"):
        load_config(Home.at(tmp_path))


def test_the_last_line_of_a_structured_log_is_its_error(tmp_path):
    log = tmp_path / "x.log"
    assert last_line(log) == "no log"
    log.write_text('{"event": "a"}\n{"error": "not a store\u2028", "event": "service.start_failed"}\n')
    assert last_line(log) == "not a store\u2028"
    log.write_text("plain\nTraceback\n")
    assert last_line(log) == "Traceback"
