"""States of a run on disk: whole or absent, the newest two and the best.

A checkpoint holds all that the next step depends on: weights that are trained, moments of the optimiser, the number
of the step. The order of rows and all randomness are functions of that number, so a resumed run equals an
uninterrupted one to the bit, on the same kind of machine.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from devtools.train.result.folders import remove_partial, whole_folder
from devtools.train.tensors import write_tensors

_TENSORS, _STATE = "tensors.safetensors", "state.json"


@dataclass(slots=True)
class State:
    """How far a run is.

    step: how many steps are done
    best_step, best_loss: of the validation with the lowest loss
    val_loss: of the last validation
    worse: validations since the best
    """

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    val_loss: float | None = None
    worse: int = 0


class Checkpoints:
    """The checkpoints in `folder`.

    Args:
        folder: Made if need be.
        machine: What bits depend on; stored, to be compared by who resumes.
    """

    def __init__(self, folder: Path, machine: Mapping[str, Any]) -> None:
        self._folder, self._machine = folder, dict(machine)

    def clean(self) -> list[Path]:
        """Remove what a killed process was writing, and the newest checkpoints as far as they are damaged.

        Returns:
            The damaged ones.
        """
        remove_partial(self._folder)
        damaged = []
        for step in reversed(self.steps()):
            if self.load(step) is not None:
                break
            damaged.append(self.path(step))
            shutil.rmtree(self.path(step))
        return damaged

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self._folder / f"step-{step:08d}"

    def save(self, state: State, tensors: Mapping[str, Tensor]) -> Path:
        """Write a checkpoint and remove those that are no longer needed.

        Raises:
            StorageFull: no room; the checkpoints before stay.
        """
        path = self.path(state.step)
        if not path.exists():
            with whole_folder(path) as staging:
                write_tensors(staging / _TENSORS, tensors)
                described = {
                    "state": asdict(state),
                    "tensors_digest": _digest(staging / _TENSORS),
                    "machine": self._machine,
                }
                (staging / _STATE).write_text(json.dumps(described, indent=2), encoding="utf-8")
        needed = {*self.steps()[-2:], state.best_step}
        for step in self.steps():
            if step not in needed:
                shutil.rmtree(self.path(step), ignore_errors=True)
        return path

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        return sorted(int(path.name.removeprefix("step-")) for path in self._folder.glob("step-*"))

    def newest(self) -> tuple[State, dict[str, Tensor], Mapping[str, Any]] | None:
        """State, tensors and machine of the newest checkpoint; None if there is none."""
        steps = self.steps()
        return self.load(steps[-1]) if steps else None

    def load(self, step: int) -> tuple[State, dict[str, Tensor], Mapping[str, Any]] | None:
        """One checkpoint; None if it is damaged."""
        path = self.path(step)
        try:
            described = json.loads((path / _STATE).read_text(encoding="utf-8"))
            if _digest(path / _TENSORS) != described["tensors_digest"]:
                return None
            return State(**described["state"]), safetensors.torch.load_file(path / _TENSORS), described["machine"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
