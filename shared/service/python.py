"""The command of a child process that is a Python module, started so that nothing of the current folder runs."""

import os
import sys
from collections.abc import Mapping


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """`python -P -m MODULE ARGUMENT…` with this Python.

    Without `-P` Python looks for modules in the current folder first, its standard library included: a file
    `secrets.py` that lies where `llmos up` is typed would run in each service.
    """
    return (sys.executable, "-P", "-m", module, *arguments)


def safe_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process, without what leads to the current folder by mistake.

    An empty entry of PYTHONPATH is the current folder: `PYTHONPATH=/opt/lib:$PYTHONPATH` has one where the variable
    was not set. A dot stays, because it was typed.
    """
    safe = dict(environment)
    if "PYTHONPATH" in safe:
        safe["PYTHONPATH"] = os.pathsep.join(filter(None, safe["PYTHONPATH"].split(os.pathsep)))
    return safe
