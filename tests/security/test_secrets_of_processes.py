"""A helper, a job's program or a replica finds no secret: not in its environment, and not in that of its parent."""

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devtools.jobs.command import run_command
from services.inference.agent.job_process import JobCommand, JobProcess
from shared.contracts.job import JobAssignment
from shared.service.environment import is_secret, without_secrets
from shared.service.private_process import keep_private
from shared.text.template_process import TemplateProcess
from tests.support.nats.server import NatsServer

SECRETS = {
    "LLMOS_NATS_URL": "nats://inference:bus-secret@127.0.0.1:4222",
    "LLMOS_INFERENCE_REPLICA_NATS_URL": "nats://replica:replica-secret@127.0.0.1:4222",
    "LLMOS_S3_SECRET_KEY": "store-secret",
    "LLMOS_S3_ACCESS_KEY": "store-user",
    "LLMOS_JOB_API_KEY_FILE": "/admin-key",
    "HF_TOKEN": "hub-secret",
    "AWS_SECRET_ACCESS_KEY": "cloud-secret",
    "HTTPS_PROXY": "http://user:proxy-secret@proxy:3128",
}
NOBODY = 65534


@pytest.fixture(autouse=True)
def _secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "TOKENIZERS_PARALLELISM", "LLMOS_LOG_LEVEL", "MONKEY", "LLMOS_STORE_URL"]
)
def test_what_a_child_needs_is_no_secret(name):
    assert not is_secret(name, "s3://bucket?endpoint=http://minio:9000")


def test_secrets_are_known_by_their_names_and_by_passwords_in_urls():
    assert without_secrets(SECRETS) == {}


async def test_the_worker_of_templates_has_none():
    async with TemplateProcess("{{ messages[0].content }}").running() as template:
        assert await template.render([{"role": "user", "content": "hello"}]) == "hello"
        assert template._process is not None
        assert SECRETS.keys().isdisjoint(psutil.Process(template._process.pid).environ())


async def test_a_jobs_process_has_those_of_the_store_and_no_others(tmp_path):
    seen = tmp_path / "environment"
    program = f"import os, json; open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))"
    command = JobCommand((sys.executable, "-P", "-c", program), tmp_path / "jobs")
    process = JobProcess(
        JobAssignment.EXAMPLE, command, on_message=lambda _: None, on_line=lambda _: None, on_end=lambda: None
    )
    await process.start()
    await process.wait()
    text = seen.read_text()
    found = {name for name in SECRETS if f'"{name}"' in text}
    assert found == {"LLMOS_S3_SECRET_KEY", "LLMOS_S3_ACCESS_KEY", "LLMOS_JOB_API_KEY_FILE"}
    assert "bus-secret" not in text


async def test_a_users_program_in_a_job_has_none(tmp_path):
    seen, output = tmp_path / "environment", tmp_path / "output"
    output.mkdir()
    program = f"import os, json; open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))"
    assert await run_command([sys.executable, "-c", program], {"output": output}, asyncio.Event()) == 0
    assert not [name for name in SECRETS if f'"{name}"' in seen.read_text()]


def reads_parent() -> bool:
    """Whether a child of this process reads its environment."""
    parent, child = os.getpid(), os.fork()
    if child == 0:
        try:
            Path(f"/proc/{parent}/environ").read_bytes()
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_child_of_the_same_user_reads_the_environment_of_a_process_only_until_it_is_private():
    """In a fork: root may read everything, and what this process gives up it does not get back."""
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # changing the user has closed it already
        before = reads_parent()
        keep_private()
        os._exit(0 if before and not reads_parent() else 1)
    assert os.waitpid(child, 0)[1] == 0


SERVICE = """
import ctypes, sys
from contextlib import asynccontextmanager
from shared.service.run import run_service
from shared.service.settings import ServiceSettings

@asynccontextmanager
async def app(context):
    print("dumpable", ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
    context.stop()
    yield

sys.exit(run_service("probe", app, ServiceSettings()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked by prctl")
async def test_every_service_is_private_before_it_runs():
    with NatsServer() as server:
        environment = {**os.environ, "LLMOS_NATS_URL": server.url}
        command = [sys.executable, "-P", "-c", SERVICE]
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "dumpable 0\n"
