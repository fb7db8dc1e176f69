"""Torch stays out of every process that serves, converts or talks to people."""

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the extra `train` (torch) is not installed, so nothing could load it")

pytestmark = pytest.mark.train
PROCESSES = [
    "services.registry.__main__",
    "services.scheduler.__main__",
    "services.gateway.__main__",
    "services.monitor.__main__",
    "services.inference.__main__",
    "services.inference.replica.__main__",
    "services.inference.app",
    "services.inference.replica.generate.replica",
    "services.inference.replica.encode.replica",
    "shared.text.template_worker",
    "llmos.cli",
    "llmos.embedded",
    "devtools.convert",
    "devtools.data.rows",
    "devtools.train.recipe",
]


@pytest.mark.parametrize("module", PROCESSES)
def test_a_process_does_not_load_torch(module):
    """Importing `__main__` under its name loads what the process loads, and starts nothing."""
    code = (
        f"import sys, importlib; importlib.import_module({module!r}); print('torch' in sys.modules, len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded, count = done.stdout.split()
    assert loaded == "False"
    assert int(count) > 50


def test_the_trainer_does():
    code = "import sys, devtools.train.command; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True", "else the test above could not fail"
