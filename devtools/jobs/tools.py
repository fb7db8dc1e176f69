"""The tool of each kind of job, and what is missing for it in this Python.

A tool is imported when its job starts: a Python without PyTorch prepares rows, and one without the libraries for rows
runs programs.
"""

import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata

from devtools.jobs.settings import NO_GATEWAY
from devtools.jobs.tool import Run
from shared.errors import UnsupportedFormat

Tool = Callable[[Run], Awaitable[None]]
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[(?P<extra>\w+)\])?[^;]*; extra == ['\"](?P<of>[\w-]+)['\"]")
_INSTEAD = {"onnxruntime": "onnxruntime-gpu"}
"""Distributions that have the modules of another one."""


@dataclass(frozen=True, slots=True)
class KindOfJob:
    """Where the tool of a kind is.

    extras: of LLMOS, with the libraries that it imports
    asks: whether it asks the gateway
    """

    module: str
    function: str
    extras: tuple[str, ...] = ()
    asks: bool = False

    def load(self) -> Tool:
        """The tool; raises ImportError where an extra is missing."""
        found: Tool = getattr(import_module(self.module), self.function)
        return found

    def lacks(self, environment: Mapping[str, str]) -> str:
        """What is missing for it here, and what to do; "" if nothing is."""
        for extra in self.extras:
            if missing := sorted({name for name in required(extra) if not _installed(name)}):
                return (
                    f"{sys.executable} lacks {', '.join(missing)}: run \"pip install 'llmos[{extra}]'\" with it, or"
                    " set LLMOS_INFERENCE_JOB_COMMAND to a Python that has them, then start the node again"
                )
        known = environment.get("LLMOS_JOB_GATEWAY_URL") and environment.get("LLMOS_JOB_API_KEY_FILE")
        return NO_GATEWAY if self.asks and not known else ""


TOOLS: dict[str, KindOfJob] = {
    "run": KindOfJob("devtools.jobs.command", "run_user_command", ("devtools",)),
    "prepare": KindOfJob("devtools.jobs.prepare", "prepare_version", ("devtools", "data")),
    "train": KindOfJob("devtools.jobs.train.tool", "train", ("data", "train")),
    "evaluate": KindOfJob("devtools.jobs.evaluate", "evaluate_served", ("data", "evaluate"), asks=True),
    "search": KindOfJob("devtools.jobs.search.tool", "search", ("data", "train")),
}


def tool_of(kind: str) -> Tool:
    """The tool of a kind; raises UnsupportedFormat for one that there is not."""
    if kind not in TOOLS:
        raise UnsupportedFormat(f"this node can't run jobs of kind {kind!r}")
    return TOOLS[kind].load()


def lacking() -> dict[str, str]:
    """Kinds of jobs that can't run here, and what is missing for each."""
    found = {kind: tool.lacks(os.environ) for kind, tool in TOOLS.items()}
    return {kind: reason for kind, reason in found.items() if reason}


def required(extra: str) -> Iterator[str]:
    """The distributions of an extra of LLMOS."""
    for line in metadata.requires("llmos") or ():
        found = _REQUIREMENT.fullmatch(line)
        if found is None or found["of"] != extra:
            continue
        if found["name"] == "llmos":
            yield from required(found["extra"])
        else:
            yield found["name"]


def _installed(distribution: str) -> bool:
    for name in (distribution, _INSTEAD.get(distribution)):
        with suppress(metadata.PackageNotFoundError):
            if name is not None:
                metadata.distribution(name)
                return True
    return False
