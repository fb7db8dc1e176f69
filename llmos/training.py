"""What a person asks for when a model is to be trained: versions, a name and a recipe.

A file that says all of it is a recipe of `devtools.train` with the keys `base`, `teacher`, `datasets` and `name`
before it and the table `[job]` behind it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devtools.toml import change_value, parse_toml, toml_text
from llmos.client import Client
from llmos.lineage import Names, Origin
from shared.contracts.job import CreateJob
from shared.contracts.manifest import NAME_RULE, Kind, Manifest, is_name
from shared.contracts.resources import Resources
from shared.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from devtools.jobs.train.plan import Plan

METHODS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "full": {"method": "sft", "weights": "full"},
    "dpo": {"method": "dpo"},
    "pretrain": {"method": "pretrain", "weights": "full"},
    "distil": {"method": "distil"},
    "scratch": {"method": "pretrain", "weights": "scratch"},
}
"""The first word of `llmos train`, and what it is short for."""
_SHORT = {"lr": "optimizer.learning_rate"}
_RECIPE_FILE = "recipe.toml"


@dataclass(frozen=True, slots=True)
class Training:
    """All that a run is.

    recipe: Keys and tables, as in the file; with `job`.
    name: What the result becomes a version of; empty: not said yet.
    """

    recipe: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    base: str | None = None
    teacher: str | None = None
    datasets: tuple[str, ...] = ()

    def text(self) -> str:
        """As a file that `llmos train` takes."""
        said = {"name": self.name, "base": self.base, "teacher": self.teacher, "datasets": list(self.datasets)}
        return toml_text({key: value for key, value in said.items() if value} | self.recipe)

    def request(
        self,
        client: Client,
        *,
        memory: int | None,
        threads: int,
        priority: int,
        retries: int,
        search: Mapping[str, Any] | None = None,
    ) -> CreateJob:
        """The job; `memory` None: as estimated. With the table `search`, a search for the best training.

        Raises:
            InvalidInput: What is missing or wrong.
        """
        from devtools.jobs.search.plan import SearchPlan  # noqa: PLC0415  # other commands start without it
        from devtools.jobs.train.plan import Plan  # noqa: PLC0415

        if not is_name(self.name):
            raise InvalidInput(f"--name {self.name!r}: expected {NAME_RULE}", param="name")
        base = client.models.version(self.base).manifest if self.base else None
        recipe = self.recipe
        if base is not None and "max_len" not in recipe and base.context_length < Plan.of(recipe).recipe.max_len:
            recipe = {"max_len": base.context_length} | recipe
        if search is not None:
            recipe = {**recipe, "search": dict(search)}
        plans = [Plan.of(recipe)] if search is None else SearchPlan.of(recipe).extremes()
        if memory is None:
            memory = max(self._estimate(client, plan, base) for plan in plans)
        return CreateJob(
            kind="train" if search is None else "search",
            base=self.base,
            teacher=self.teacher,
            datasets=self.datasets,
            recipe=toml_text(recipe),
            result=Kind.MODEL,
            result_name=self.name,
            resources=Resources(memory=memory, threads=threads),
            node_count=plans[0].job.nodes,
            priority=priority,
            retries=retries,
        )

    def _estimate(self, client: Client, plan: "Plan", base: Manifest | None) -> int:
        from devtools.train.memory import estimate_memory, size_from_scratch, size_of  # noqa: PLC0415

        teacher = size_of(client.models.version(self.teacher).manifest) if self.teacher else None
        model = size_of(base) if base is not None else size_from_scratch(plan.recipe)
        return estimate_memory(plan.recipe, model, teacher=teacher, processes=plan.job.processes)


def from_words(what: str, references: Sequence[str]) -> Training:
    """The training that a terminal's words ask for: a method and its versions, or a file that says all.

    Raises:
        InvalidInput: Neither, or both.
    """
    if what in METHODS:
        return from_method(what, references)
    if not what.endswith(".toml"):
        raise InvalidInput(
            f"{what!r} is no kind of training: expected {', '.join(METHODS)}, or a file RECIPE.toml", param="method"
        )
    if references:
        raise InvalidInput(f"{what} says which versions it takes; leave {references[0]!r} out", param="datasets")
    return from_file(Path(what))


def from_method(method: str, references: Sequence[str]) -> Training:
    """The training of `sft BASE DATASET…` or `scratch DATASET…`.

    Raises:
        InvalidInput: A version is missing.
    """
    recipe, given = dict(METHODS[method]), list(references)
    base = None
    if recipe.get("weights") != "scratch":
        base = given.pop(0) if given else None
    if not given:
        expected = "BASE DATASET" if recipe.get("weights") != "scratch" else "DATASET"
        raise InvalidInput(f"llmos train {method} needs {expected}, for example {_example(method)}", param="datasets")
    return Training(recipe, base=base, datasets=tuple(given))


def from_file(path: Path) -> Training:
    """The training that a file describes.

    Raises:
        InvalidInput: It can't be read, or a key is of another type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"the recipe {path} can't be read: {error.strerror}", param="recipe") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not TOML: {error}", param="recipe") from None
    values = parse_toml(text, called=str(path))
    name, base, teacher = (_word(values, key) for key in ("name", "base", "teacher"))
    datasets = values.pop("datasets", [])
    if not isinstance(datasets, list) or not all(isinstance(one, str) for one in datasets) or not datasets:
        raise InvalidInput(f'{path}: datasets must be a list such as ["support:2"]', param="datasets")
    return Training(values, name=name or "", base=base, teacher=teacher, datasets=tuple(datasets))


def from_version(client: Client, reference: str) -> Training:
    """The training that made a version, on the same versions.

    Raises:
        NotFound: It was not trained here, or what it was made from was deleted.
    """
    version = client.models.version(reference)
    lineage, names = version.manifest.lineage, Names(client)
    recipes = [file for file in version.manifest.files if file.path == _RECIPE_FILE]
    if lineage.recipe is None or not recipes:
        raise NotFound(f"{version.reference} was not made by a training here: its source is {lineage.source}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _RECIPE_FILE
        client.blobs.download(recipes[0].digest, path, lambda _: None)
        recipe = parse_toml(path.read_text(encoding="utf-8"))
    base, teacher = names.base(lineage), names.teacher(lineage)
    return Training(
        recipe,
        name=version.name,
        base=_there(base, "base") if base else None,
        teacher=_there(teacher, "teacher") if teacher else None,
        datasets=tuple(_there(one, "dataset") for one in names.datasets(lineage)),
    )


def changed(training: Training, changes: Sequence[str]) -> Training:
    """The training with `changes` such as `lr=1e-3`, `rank=4` or `robust.dropout=0.1`.

    Raises:
        InvalidInput: No such key, or a short one that several tables have.
    """
    recipe = {key: dict(value) if isinstance(value, dict) else value for key, value in training.recipe.items()}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise InvalidInput(f"--set {change!r}: expected KEY=VALUE, for example --set lr=1e-3", param="set")
        change_value(recipe, _full_key(key.strip()), text.strip(), f"--set {change!r}")
    return replace(training, recipe=recipe)


def _full_key(key: str) -> str:
    """The dotted key of a short one."""
    from devtools.jobs.train.plan import TABLE, JobTable  # noqa: PLC0415  # other commands start without it
    from devtools.train.recipe import Recipe  # noqa: PLC0415
    from devtools.train.recipe.errors import keys  # noqa: PLC0415

    if key in _SHORT or "." in key or key in Recipe.model_fields:
        return _SHORT.get(key, key)
    known = [*keys(Recipe), *keys(JobTable, f"{TABLE}.")]
    found = [name for name in known if name.rsplit(".", 1)[-1] == key]
    if len(found) > 1:
        raise InvalidInput(f"--set {key}: which of {', '.join(found)}?", param="set")
    return found[0] if found else key


def _word(values: dict[str, Any], key: str) -> str | None:
    found = values.pop(key, None)
    if found is not None and not isinstance(found, str):
        raise InvalidInput(f"the recipe's {key} must be a word in quotes, not {found!r}", param=key)
    return found


def _there(origin: Origin, role: str) -> str:
    if origin.reference is None:
        raise NotFound(f"its {role} {origin.digest[:12]} was deleted; the same training can't be run again")
    return origin.reference


def _example(method: str) -> str:
    if method == "scratch":
        return "llmos train scratch books:1 --name tiny"
    more = " --teacher smollm2:1" if method == "distil" else ""
    return f"llmos train {method} smollm2@prod support:2{more} --name helper"
