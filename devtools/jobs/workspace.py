"""The folder of a job on its node. It outlives the process: the next attempt finds it."""

from dataclasses import dataclass
from pathlib import Path

from shared.contracts.job import JobAssignment

ASSIGNMENT_FILE = "assignment.json"
"""Written by the node agent."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Names in the folder."""

    root: Path

    @property
    def assignment(self) -> JobAssignment:
        """What the job does."""
        return JobAssignment.decode((self.root / ASSIGNMENT_FILE).read_bytes())

    @property
    def inputs(self) -> Path:
        """Versions from the registry, each in a folder of its own."""
        return self._folder("inputs")

    @property
    def output(self) -> Path:
        """What the tool makes."""
        return self._folder("output")

    @property
    def checkpoints(self) -> Path:
        """What the tool saves to go on from."""
        return self._folder("checkpoints")

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
