"""What a tool left in a folder becomes a version: converted, checked, uploaded, with its lineage."""

import asyncio
import hashlib
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from devtools.convert import convert_hf, is_model_directory
from devtools.jobs.adapter import is_adapter, merge_adapter
from devtools.jobs.files import upload_folder
from devtools.quantization import Quantize
from shared.contracts.job import JobSpec, NewVersion
from shared.contracts.manifest import Kind, Manifest, ManifestFile
from shared.errors import UnsupportedFormat
from shared.storage.port import ArtifactStore

RECIPE_FILE = "recipe.toml"
"""In a version that was trained: the recipe, by the digest that its lineage names."""


@dataclass(frozen=True, slots=True)
class Made:
    """How a result was made.

    job: The job's id.
    code: Versions of the software.
    quantize: For the result's weights.
    base: Manifest of the version that it was made from, whose license it keeps.
    base_folder: That version as a Hugging Face directory, where the result may be an adapter of it.
    metrics: What was measured.
    """

    job: str
    code: str = ""
    quantize: Quantize = "auto"
    base: Manifest | None = None
    base_folder: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)


async def version_of(spec: JobSpec, folder: Path, store: ArtifactStore, made: Made) -> NewVersion:
    """The version that the job makes, with its files in the store.

    Args:
        spec: Says what is made, and of what.
        folder: With what the tool left: a Hugging Face directory, or an adapter of the base as PEFT writes it.
        store: Takes the files.
        made: For the lineage.

    Raises:
        UnsupportedFormat: The folder does not hold what the job should make.
        StorageFull: No room in the store.
    """
    assert spec.result_name is not None
    if spec.result is not Kind.MODEL:
        raise UnsupportedFormat(f"a job can't make a {spec.result} from a folder yet")
    if is_adapter(folder) and not is_model_directory(folder):
        if made.base_folder is None:
            raise UnsupportedFormat("the output folder has an adapter, and the job no base to merge it into (--base)")
        merged = folder.parent / "merged"
        shutil.rmtree(merged, ignore_errors=True)
        await asyncio.to_thread(merge_adapter, folder, made.base_folder, merged)
        folder = merged
    if not is_model_directory(folder):
        raise UnsupportedFormat(
            "the output folder is no result: expected a Hugging Face model (config.json, tokenizer.json, safetensors)"
            " or an adapter as PEFT writes it (adapter_config.json, adapter_model.safetensors)"
        )
    converted = folder.parent / "version"
    manifest = await asyncio.to_thread(
        convert_hf, folder, converted, quantize=made.quantize, name=f"job {made.job}", progress=_Stages()
    )
    files = manifest.files
    if spec.recipe:
        recipe = spec.recipe.encode()
        (converted / RECIPE_FILE).write_bytes(recipe)
        files += (ManifestFile(path=RECIPE_FILE, digest=hashlib.sha256(recipe).hexdigest(), size=len(recipe)),)
    await upload_folder(store, converted)
    manifest = manifest.model_copy(update={"files": files, "metrics": {**manifest.metrics, **made.metrics}})
    return NewVersion(name=spec.result_name, kind=Kind.MODEL, manifest=with_lineage(manifest, spec, made))


def with_lineage(manifest: Manifest, spec: JobSpec, made: Made) -> Manifest:
    """The manifest with what the job was made from."""
    lineage = manifest.lineage.model_copy(
        update={
            "base": spec.base.digest if spec.base else None,
            "teacher": spec.teacher.digest if spec.teacher else None,
            "datasets": tuple(one.digest for one in spec.datasets),
            "recipe": hashlib.sha256(spec.recipe.encode()).hexdigest() if spec.recipe else None,
            "job": made.job,
            "code": made.code,
            "license": manifest.lineage.license or (made.base.lineage.license if made.base else None),
        }
    )
    return manifest.model_copy(update={"lineage": lineage})


class _Stages:
    """Writes each stage of a conversion to the log once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, stage: str, fraction: float) -> None:
        del fraction
        if stage != self._last:
            self._last = stage
            print(f"converting: {stage}", file=sys.stderr, flush=True)  # noqa: T201  # the job's log
