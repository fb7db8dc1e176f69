import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.make_secrets import complete
from deploy.nats.make_conf import TARGET, text
from tests.support.harness.compose import dotenv


def server(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert binary, "no nats-server: install the extra `dev`"
    command = [binary, *arguments]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_the_file_is_what_its_generator_writes():
    assert TARGET.read_text() == text(), "run `python deploy/nats/make_conf.py`"


def test_the_server_accepts_it_with_secrets_as_they_are_made():
    done = server("-t", "-c", str(TARGET), env=dotenv(complete("")))
    assert done.returncode == 0, done.stderr


def test_the_server_refuses_to_start_without_the_passwords():
    done = server("-t", "-c", str(TARGET), env={})
    assert done.returncode != 0
    assert "NATS_PASSWORD_" in done.stderr


def test_no_password_is_in_the_file():
    for line in TARGET.read_text().splitlines():
        if '"password"' in line:
            assert re.search(r'"password": \$NATS_PASSWORD_[A-Z]+\b', line), line
