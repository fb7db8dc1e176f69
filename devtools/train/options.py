"""Where a run reads and writes, and what changes its speed and memory only; a recipe has the rest."""

from dataclasses import dataclass, field
from pathlib import Path

from devtools.train.recipe import Recipe
from devtools.train.result.write import ResultKind
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class CheckpointInterval:
    """When checkpoints are written: every so many steps, or after so many seconds."""

    steps: int | None = None
    seconds: float = 60.0

    def due(self, done: int, since: float) -> bool:
        """Whether one is due after `done` steps, `since` seconds after the last."""
        return done % self.steps == 0 if self.steps is not None else since >= self.seconds


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where a run reads and writes, and what changes its speed and memory only.

    data: JSONL files of rows
    output: holds checkpoints and the result; the same command continues there
    base: a GGUF or a Hugging Face directory; None with weights = 'scratch'
    adapter: PEFT's folder of an adapter of the base that is trained on
    teacher: with method distil
    validation: JSONL of held-out rows
    result: what is left; by default an adapter where one is trained, else a model
    threads: of PyTorch; None: its own choice
    keep_codes: whether frozen matrices stay quantised; None: where floats would take a third of the free memory
    recompute: whether layers are computed again on the way back instead of kept
    interval: of checkpoints
    """

    data: tuple[Path, ...]
    output: Path
    base: Path | None = None
    adapter: Path | None = None
    teacher: Path | None = None
    validation: Path | None = None
    result: ResultKind | None = None
    threads: int | None = None
    keep_codes: bool | None = None
    recompute: bool = False
    interval: CheckpointInterval = field(default_factory=CheckpointInterval)

    def result_kind(self, recipe: Recipe) -> ResultKind:
        """What the run leaves; raises InvalidInput for an adapter of a run that has none."""
        if recipe.weights == "adapter":
            return self.result or "adapter"
        if self.result == "adapter":
            raise InvalidInput(f"weights = {recipe.weights!r} leaves a model, not an adapter", param="result")
        return "model"
