"""What makes a run the same run: recipe, data and models by digest, and the precision chosen at its start."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from devtools.train.distributed import World
from devtools.train.inputs import Inputs
from devtools.train.model.peft import adapter_digest
from devtools.train.progress import Finished
from devtools.train.recipe import Recipe
from devtools.train.result.folders import folder_digest
from devtools.train.result.write import RECORD
from shared.errors import Conflict, InvalidInput

_RUN = "run.json"
_NO_BFLOAT16 = "this processor has no bfloat16 products; set compute.precision = 'float32'"


def digests(recipe: Recipe, inputs: Inputs, adapter: Path | None) -> dict[str, str]:
    """SHA-256 of all that a run starts from."""
    found = {"recipe": recipe.digest, "data": inputs.data_digest, "base": inputs.model.digest}
    if inputs.teacher is not None:
        found["teacher"] = inputs.teacher.digest
    if adapter is not None:
        found["adapter"] = adapter_digest(adapter)
    return found


def agree(world: World, names: Mapping[str, str]) -> None:
    """Raise InvalidInput unless all processes start from the same `digests`: nodes read files of their own."""
    own = dict(names)
    found = world.each(own)
    other = sorted({name for one in found for name in {*one, *own} if one.get(name) != found[0].get(name)})
    if other:
        raise InvalidInput(f"the nodes have another {', '.join(other)}; give all of them the same", param=other[0])


def claim_output(world: World, output: Path, names: Mapping[str, str], recipe: Recipe) -> str:
    """Make `output` the folder of this run, in the first process; returns its precision, `float32` or `bfloat16`.

    Raises:
        Conflict: it belongs to another run.
        InvalidInput: this processor lacks the precision.
    """
    precision: str = world.of_first(_claimed(output, names, recipe) if world.first else "")
    if precision == "bfloat16" and not _has_bfloat16():
        raise InvalidInput(_NO_BFLOAT16, param="compute.precision")
    return precision


def _claimed(output: Path, names: Mapping[str, str], recipe: Recipe) -> str:
    """Make `output` the folder of this run.

    Raises:
        Conflict: it belongs to another run.
        InvalidInput: this processor lacks the precision.
    """
    path = output / _RUN
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(
            name for name in {*names, *before["digests"]} if names.get(name) != before["digests"].get(name)
        )
        if other:
            raise Conflict(
                f"{output} holds a run with another {', '.join(other)}; choose another folder, or start that run",
                param="output",
            )
        return str(before["precision"])
    precision = _precision(recipe)
    output.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"digests": dict(names), "precision": precision}, indent=2), encoding="utf-8")
    partial.replace(path)
    return precision


def _precision(recipe: Recipe) -> str:
    fast = _has_bfloat16()
    if recipe.compute.precision == "bfloat16" and not fast:
        raise InvalidInput(_NO_BFLOAT16, param="compute.precision")
    return "bfloat16" if fast and recipe.compute.precision != "float32" else "float32"


def _has_bfloat16() -> bool:
    capable = torch.cpu.get_capabilities()
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16") or capable.get("bf16"))


def machine(world: World) -> dict[str, Any]:
    """What the bits of a run depend on beside its digests."""
    return {
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": world.size,
    }


def record(
    recipe: Recipe, inputs: Inputs, names: Mapping[str, str], precision: str, *, step: int, val_loss: float | None
) -> dict[str, Any]:
    """Where a result came from, without times and paths: equal runs have equal records."""
    return {
        "base": inputs.model.source,
        "digests": dict(names),
        "recipe": recipe.model_dump(mode="json"),
        "precision": precision,
        "step": step,
        "val_loss": val_loss,
        "code": {"llmos": importlib.metadata.version("llmos"), "torch": torch.__version__},
    }


def finished(result: Path, kind: str) -> Finished | None:
    """The end of a run whose result is there already."""
    if not result.exists():
        return None
    left = json.loads((result / RECORD).read_text(encoding="utf-8"))
    return Finished(left["step"], left["val_loss"], kind, str(result), folder_digest(result))
