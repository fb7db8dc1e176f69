"""A base, rows and recipes of training jobs that take seconds, in a store and a registry."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from devtools.convert import convert_gguf
from devtools.data.rows import Row
from shared.contracts.dataset import DatasetManifest, Rows
from shared.contracts.manifest import Kind, Manifest, ManifestFile
from shared.contracts.registry import DATASETS, MODELS, CreateDatasetVersion, CreateModelVersion
from shared.storage.port import ArtifactStore
from tests.support.factories.blobs import sha256, stream
from tests.support.models.small_model import write_small_gguf

RECIPE = """\
steps = {steps}
batch = 8
max_len = 128

[optimizer]
learning_rate = 1e-3

[compute]
precision = "float32"

[job]
checkpoint_steps = {every}
"""


def recipe(steps: int = 6, every: int = 1, *, head: str = "", tail: str = "") -> str:
    """A recipe of a few seconds, with more keys before and more of `[job]` behind."""
    return head + RECIPE.format(steps=steps, every=every) + tail


async def base_version(system, folder: Path, name: str = "tiny") -> None:
    """A tiny Llama as a version."""
    gguf = write_small_gguf(folder / f"{name}.gguf", scale=0.125)
    manifest = await asyncio.to_thread(convert_gguf, gguf, folder / name)
    for file in manifest.files:
        await system.store.put_blob(file.digest, stream((folder / name / file.path).read_bytes()))
    await system.ask(MODELS.create, CreateModelVersion(name=name, manifest=manifest))


async def rows_version(
    system, rows: Iterable[Row], *, kind: Rows = "turns", name: str = "rows", held_out: Iterable[Row] = (), **fields
) -> None:
    """Rows as a version of a dataset."""
    files, splits = [], {}
    for split, given in (("train", list(rows)), ("validation", list(held_out))):
        if given:
            data = b"".join(row.canonical() + b"\n" for row in given)
            await system.store.put_blob(sha256(data), stream(data))
            files.append(ManifestFile(path=f"{split}-00000.jsonl", digest=sha256(data), size=len(data)))
            splits[split] = len(given)
    manifest = DatasetManifest(files=tuple(files), rows=kind, splits=splits, **fields)
    await system.ask(DATASETS.create, CreateDatasetVersion(name=name, manifest=manifest))


async def manifest_of(store: ArtifactStore, name: str, version: int = 1) -> Manifest:
    """The manifest of a version in the store."""
    data = await store.get_manifest(name, version, Kind.MODEL)
    assert data is not None, json.dumps(await store.manifests(Kind.MODEL))
    return Manifest.decode(data)


def weights(manifest: Manifest) -> str:
    """The digest of a version's weights."""
    return next(file.digest for file in manifest.files if file.path == "model.onnx.data")
