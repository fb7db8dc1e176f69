"""What the tool of a kind of job gets, and how it says that it was stopped."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from devtools.jobs.protocol import Messages
from devtools.jobs.workspace import Workspace
from shared.contracts.job import JobAssignment
from shared.storage.port import ArtifactStore


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a job."""

    assignment: JobAssignment
    workspace: Workspace
    store: ArtifactStore
    cache: Path
    messages: Messages
    stop: asyncio.Event
    """Set by SIGTERM: save a checkpoint and end."""


class Stopped(Exception):
    """The tool was asked to stop: a checkpoint is in the store, or there is nothing to save."""
