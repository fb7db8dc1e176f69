"""What a training starts from: base, teacher and rows, from the registry to the job's folder.

What does not fit together is refused before anything large is fetched.
"""

from dataclasses import dataclass
from pathlib import Path

from devtools.data.write import split_of
from devtools.jobs.files import fetch_version, read_manifest
from devtools.jobs.tool import Run
from devtools.jobs.train.plan import Plan
from devtools.jobs.uploads import uploaded_dataset
from shared.contracts.dataset import DatasetManifest
from shared.contracts.job import Input, JobSpec
from shared.contracts.manifest import Kind, Manifest
from shared.errors import InvalidInput, UnsupportedFormat

TAKEN = {
    "pretrain": ("text",),
    "sft": ("turns", "text"),
    "distil": ("turns", "text"),
    "dpo": ("pairs",),
}
"""The rows that each method learns from."""
_TRAIN, _VALIDATION = "train", "validation"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where things lie.

    base, teacher: Folders with the files of a version and its manifest; None where there is none.
    manifest: Of the base.
    rows: JSONL files that are trained on, in order.
    validation: One with held-out rows.
    """

    base: Path | None
    manifest: Manifest | None
    teacher: Path | None
    rows: tuple[Path, ...]
    validation: Path | None
    spec: JobSpec
    """What the job does; the dataset that uploads became is one of its datasets."""


async def fetch_inputs(run: Run, plan: Plan) -> Inputs:
    """Check and fetch what the job of `run` starts from.

    Raises:
        InvalidInput: Something is missing, of another kind, or does not fit the rest.
        NotFound: A version was deleted.
    """
    spec = run.assignment.spec
    if spec.result_name is None:
        raise InvalidInput("a training needs the name of what it makes (--name)", param="result_name")
    if (plan.recipe.weights == "scratch") != (spec.base is None):
        wrong = "takes no base" if spec.base is not None else "needs a base"
        raise InvalidInput(f"weights = {plan.recipe.weights!r} {wrong}", param="base")
    if (plan.recipe.method == "distil") != (spec.teacher is not None):
        raise InvalidInput("method = 'distil' and a teacher go together", param="teacher")
    manifest = await _decoder(run, spec.base, "base") if spec.base is not None else None
    if spec.teacher is not None:
        await _decoder(run, spec.teacher, "teacher")
    datasets = await _stored(run)
    if (uploaded := await uploaded_dataset(run)) is not None:
        version = Input(kind=Kind.DATASET, name=spec.result_name, version=0, digest=uploaded.digest)
        datasets.append(_Dataset("of the uploads", uploaded.manifest, uploaded.folder))
        spec = spec.model_copy(update={"datasets": (version,)})
    _check_rows(datasets, plan, manifest)
    base = teacher = None
    if spec.base is not None:
        base, _ = await fetch_version(run.store, spec.base, Manifest, run.workspace.inputs, run.cache)
    if spec.teacher is not None:
        teacher, _ = await fetch_version(run.store, spec.teacher, Manifest, run.workspace.inputs, run.cache)
    rows, held_out = await _fetch_rows(run, datasets)
    joined = _joined(held_out, run.workspace.inputs / "validation.jsonl")
    return Inputs(base, manifest, teacher, rows, joined, spec)


async def _decoder(run: Run, version: Input, role: str) -> Manifest:
    manifest = await read_manifest(run.store, version, Manifest)
    if not manifest.generates:
        raise UnsupportedFormat(
            f"the {role} {version.reference} is a model for task {manifest.task!r}; only decoders are trained",
            param=role,
        )
    return manifest


@dataclass(frozen=True, slots=True)
class _Dataset:
    """A dataset of the job; `folder` is None where its files are in the store."""

    reference: str
    manifest: DatasetManifest
    folder: Path | None = None


async def _stored(run: Run) -> list[_Dataset]:
    return [
        _Dataset(dataset.reference, await read_manifest(run.store, dataset, DatasetManifest))
        for dataset in run.assignment.spec.datasets
    ]


def _check_rows(datasets: list[_Dataset], plan: Plan, base: Manifest | None) -> None:
    if not datasets:
        raise InvalidInput("a training needs a dataset", param="datasets")
    taken = TAKEN[plan.recipe.method]
    for dataset in datasets:
        manifest = dataset.manifest
        if manifest.rows not in taken:
            raise InvalidInput(
                f"dataset {dataset.reference} has {manifest.rows}; method {plan.recipe.method!r} learns from"
                f" {' or '.join(taken)}",
                param="datasets",
            )
        tokenizers = {file.digest for file in base.files if file.path == "tokenizer.json"} if base else set()
        if base is not None and manifest.tokens and not tokenizers & manifest.tokens.keys():
            raise InvalidInput(
                f"dataset {dataset.reference} was prepared for another tokenizer than that of the base; prepare its"
                " rows for this base",
                param="datasets",
            )


async def _fetch_rows(run: Run, datasets: list[_Dataset]) -> tuple[tuple[Path, ...], list[Path]]:
    rows: list[Path] = []
    held_out: list[Path] = []
    folders = [dataset.folder for dataset in datasets if dataset.folder is not None]
    for version in run.assignment.spec.datasets:
        folder, _ = await fetch_version(run.store, version, DatasetManifest, run.workspace.inputs, run.cache)
        folders.append(folder)
    # Stored ones and uploads do not go together, so the order is that of the datasets.
    for folder, dataset in zip(folders, datasets, strict=True):
        for file in dataset.manifest.files:
            if split_of(file.path) == _VALIDATION:
                held_out.append(folder / file.path)
            elif split_of(file.path) == _TRAIN:
                rows.append(folder / file.path)
    if not rows:
        raise InvalidInput("the datasets have no rows in the split 'train'", param="datasets")
    return tuple(rows), held_out


def _joined(files: list[Path], target: Path) -> Path | None:
    """The rows of several files in one."""
    if not files:
        return None
    with target.open("wb") as joined:
        for path in files:
            joined.write(path.read_bytes())
    return target
