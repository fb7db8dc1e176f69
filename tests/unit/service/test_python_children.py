"""Nothing of the current folder runs in a child process."""

import os
import sys
from pathlib import Path

import pytest

from shared.service.python import python_module, safe_path
from shared.service.supervise import Child, ChildSpec
from shared.text.template_process import TemplateProcess
from tests.support.harness.wait import eventually

TRAP = "open({ran!r}, 'w').close()\nraise SystemExit('code of the current folder was run')\n"
MODULES = ("secrets", "resource", "json", "asyncio", "services/__init__", "shared/__init__", "sitecustomize")


@pytest.fixture(params=[None, "", os.pathsep, f"/nowhere{os.pathsep}", f"{os.pathsep}/nowhere"])
def ran(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the current folder lie modules with names that are imported; each makes this file when it runs."""
    marker = tmp_path / "RAN"
    for name in MODULES:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(TRAP.format(ran=str(marker)))
    monkeypatch.chdir(tmp_path)
    if request.param is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", request.param)
    return marker


async def test_a_supervised_child_runs_its_own_modules(ran, tmp_path):
    log = tmp_path / "log"
    child = Child(ChildSpec(name="health", argv=python_module("shared.service.health_file"), log=log))
    await child.start()
    await eventually(lambda: "LLMOS_HEALTH_FILE is not set" in log.read_text())
    await child.stop()
    assert not ran.exists()


async def test_a_worker_runs_its_own_modules(ran):
    async with TemplateProcess("{{ messages[0].content }}").running() as process:
        assert await process.render([{"role": "user", "content": "hello"}]) == "hello"
    assert not ran.exists()


def test_an_entry_that_was_typed_stays():
    joined = os.pathsep.join
    assert safe_path({"PYTHONPATH": joined(["", ".", "/a", ""])}) == {"PYTHONPATH": joined([".", "/a"])}
    assert safe_path({"A": "1"}) == {"A": "1"}
    assert python_module("m", "x") == (sys.executable, "-P", "-m", "m", "x")
