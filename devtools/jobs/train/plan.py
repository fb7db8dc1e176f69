"""What a training job is told: a recipe of `devtools.train`, and the table `[job]`, which says how it is run."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devtools.quantization import Quantize, scheme_after
from devtools.toml import parse_toml, toml_text
from devtools.train.recipe import Recipe, parse_recipe
from devtools.train.recipe.errors import explain
from shared.contracts.job import MAX_NODES
from shared.errors import InvalidInput

TABLE = "job"


class JobTable(BaseModel):
    """How a training runs, and the form of what it makes. Changes no weight but by rounding."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    nodes: int = Field(default=1, ge=1, le=MAX_NODES)
    """Nodes that train together. The bits of the result depend on nodes times processes, not on which nodes."""
    processes: int = Field(default=1, ge=1, le=64)
    """Processes of each node that train together, started by `torchrun`."""
    quantize: Literal["base", "auto", "none", "int8", "int4"] = "base"
    """The result's weights. base: floats stay floats, and quantised weights get 8 bits (`scheme_after`)."""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """A checkpoint every so many steps."""
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    """Without `checkpoint_steps`, one after so many seconds."""
    keep_codes: Literal["auto", "yes", "no"] = "auto"
    """Whether frozen matrices stay quantised, which saves memory and takes time."""
    recompute: bool = False
    """Whether layers are computed again on the way back, which saves memory."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe and its table `[job]`."""

    recipe: Recipe
    recipe_toml: str
    """Of the recipe alone, for the child process."""
    job: JobTable

    @classmethod
    def read(cls, text: str) -> "Plan":
        """The plan of a job's recipe; raises InvalidInput that names the key."""
        return cls.of(parse_toml(text))

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Plan":
        """The plan with these keys; raises InvalidInput that names the key."""
        keys = {name: value for name, value in values.items() if name != TABLE}
        try:
            table = JobTable.model_validate(values.get(TABLE, {}))
        except ValidationError as error:
            message, param = explain(error, JobTable)
            raise InvalidInput(message.replace("recipe:", f"recipe, [{TABLE}]:", 1), param=param) from None
        return cls(parse_recipe(keys), toml_text(keys), table)

    def quantize(self, base: str | None) -> Quantize:
        """The quantization of the result of a base whose weights are `base`; None: there is no base."""
        return scheme_after(base) if self.job.quantize == "base" else self.job.quantize
