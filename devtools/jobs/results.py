"""What a tool left in a folder becomes a version: converted, checked, uploaded, with its lineage."""

import asyncio
import hashlib
from pathlib import Path

from devtools.convert import convert_hf, is_model_directory
from devtools.jobs.files import upload_folder
from shared.contracts.job import JobSpec, NewVersion
from shared.contracts.manifest import Kind, Manifest
from shared.errors import UnsupportedFormat
from shared.storage.port import ArtifactStore


async def version_of(
    spec: JobSpec, folder: Path, store: ArtifactStore, *, job: str = "", code: str = ""
) -> NewVersion:
    """The version that the job makes, with its files in the store.

    Args:
        spec: Says what is made, and of what.
        folder: With what the tool left.
        store: Takes the files.
        job: The job's id, for the lineage.
        code: Versions of the software, for the lineage.

    Raises:
        UnsupportedFormat: The folder does not hold what the job should make.
    """
    assert spec.result_name is not None
    if spec.result is not Kind.MODEL:
        raise UnsupportedFormat(f"a job can't make a {spec.result} from a folder yet")
    if not is_model_directory(folder):
        raise UnsupportedFormat(
            "the output folder is not a Hugging Face model: expected config.json, tokenizer.json and safetensors"
        )
    converted = folder.parent / "version"
    manifest = await asyncio.to_thread(convert_hf, folder, converted, name=f"job {job}", progress=lambda *_: None)
    await upload_folder(store, converted)
    return NewVersion(
        name=spec.result_name, kind=Kind.MODEL, manifest=with_lineage(manifest, spec, job=job, code=code)
    )


def with_lineage(manifest: Manifest, spec: JobSpec, *, job: str, code: str) -> Manifest:
    """The manifest with what the job was made from."""
    lineage = manifest.lineage.model_copy(
        update={
            "base": spec.base.digest if spec.base else None,
            "datasets": tuple(one.digest for one in spec.datasets),
            "recipe": hashlib.sha256(spec.recipe.encode()).hexdigest() if spec.recipe else None,
            "job": job or None,
            "code": code,
        }
    )
    return manifest.model_copy(update={"lineage": lineage})
