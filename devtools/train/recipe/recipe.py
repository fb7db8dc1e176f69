"""What a training run does, as a TOML file: everything that changes the result, and nothing else.

An unknown key is an error with the nearest name, and a key that would have no effect is an error too.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from devtools.toml import change_value, parse_toml
from devtools.train.recipe.errors import explain
from devtools.train.recipe.tables import (
    AdapterTable,
    Compute,
    Distil,
    Dpo,
    Optimizer,
    Robust,
    Schedule,
    Scratch,
    Table,
    Validation,
)
from shared.errors import InvalidInput, NotFound

_EPOCHS = 3
_RATES = {"adapter": 1e-3, "full": 5e-5, "scratch": 3e-3}


class Recipe(Table):
    """A training run."""

    method: Literal["pretrain", "sft", "dpo", "distil"] = "sft"
    weights: Literal["adapter", "full", "scratch"] = "adapter"
    """What is trained: low-rank differences, all weights, or a new model."""
    seed: int = Field(default=0, ge=0)
    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    """Instead of epochs. Without either: 3 epochs."""
    batch: int = Field(default=16, ge=1)
    """Rows of a step, on all processes together."""
    max_len: int = Field(default=1024, ge=2)
    """Tokens of a row."""
    too_long: Literal["refuse", "skip"] = "refuse"
    """What happens to a conversation that is longer; a text is cut into windows."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    adapter: AdapterTable = AdapterTable()
    scratch: Scratch = Scratch()
    dpo: Dpo = Dpo()
    distil: Distil = Distil()
    validation: Validation = Validation()
    robust: Robust = Robust()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _every_key_acts(self) -> Self:
        idle = {
            "adapter": self.weights == "adapter",
            "scratch": self.weights == "scratch",
            "dpo": self.method == "dpo",
            "distil": self.method == "distil",
        }
        for table, acts in idle.items():
            if table in self.model_fields_set and not acts:
                kind = "weights" if table in ("adapter", "scratch") else "method"
                msg = f"[{table}] has no effect with {kind} = {getattr(self, kind)!r}; remove it"
                raise ValueError(msg)
        for complaint in self._complaints():
            raise ValueError(complaint)
        return self

    def _complaints(self) -> list[str]:
        robust, found = self.robust, []
        if self.epochs is not None and self.steps is not None:
            found.append("give either 'epochs' or 'steps'")
        if robust.rdrop and not robust.dropout and not self.adapter.dropout:
            found.append("robust.rdrop compares two passes with other dropout: set robust.dropout, too")
        if self.method == "dpo" and (robust.rdrop or robust.label_smoothing or robust.equalise or robust.reverse):
            found.append("label_smoothing, rdrop, equalise and reverse of [robust] go with methods other than dpo")
        if robust.fgm and robust.freelb:
            found.append("give either robust.fgm or robust.freelb")
        if "freelb_steps" in robust.model_fields_set and not robust.freelb:
            found.append("robust.freelb_steps has no effect without robust.freelb")
        if self.weights == "scratch" and self.method in ("dpo", "distil"):
            found.append(f"method {self.method!r} needs a model to start from: weights = 'adapter' or 'full'")
        if self.method == "distil" and self.distil.hard == 0 and robust.label_smoothing:
            found.append("robust.label_smoothing has no effect with distil.hard = 0")
        return found

    @property
    def learning_rate(self) -> float:
        """The highest."""
        given = self.optimizer.learning_rate
        return _RATES[self.weights] if given is None else given

    def total_steps(self, items: int) -> int:
        """Steps of a run on `items` items."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(items * (_EPOCHS if self.epochs is None else self.epochs) / self.batch))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of all keys, defaults included."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """The recipe with these keys; raises InvalidInput: one line that names the key and what was expected."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        message, param = explain(error, Recipe)
        raise InvalidInput(message, param=param) from None


def read_recipe(path: Path, changes: list[str] | None = None) -> Recipe:
    """The recipe in the TOML file `path`, with `changes` such as `optimizer.learning_rate=1e-3`.

    Raises:
        NotFound: no such file.
        InvalidInput: not TOML, or not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the recipe {path} can't be read: {error.strerror}", param="recipe") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name} is not TOML: {error}", param="recipe") from None
    values = parse_toml(text, called=path.name)
    for change in changes or []:
        _apply(values, change)
    return parse_recipe(values)


def _apply(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise InvalidInput(f"{change!r} is not a change of the recipe; expected KEY=VALUE", param="set")
    change_value(values, key.strip(), text, f"{change!r}")
