"""The files in the store that control state needs."""

import hashlib
from collections.abc import Iterator
from typing import TypeVar

import structlog
from pydantic import ValidationError

from shared.contracts.base import Contract
from shared.contracts.file import FILES_BUCKET, UploadedFile
from shared.contracts.job import JOBS_BUCKET, Job
from shared.contracts.manifest import FileList, Kind
from shared.contracts.registry import CATALOGUES, CatalogueRecord, VersionEntry
from shared.contracts.state import ControlState, StateRecord
from shared.state.reading import record_bytes
from shared.storage.port import ArtifactStore

Version = tuple[Kind, str, VersionEntry]
"""A kind, a name, and an entry of its record."""

Record = TypeVar("Record", bound=Contract)

_log = structlog.get_logger("llmos.state")


def versions(state: ControlState) -> Iterator[Version]:
    """All versions of all kinds."""
    for catalogue in CATALOGUES:
        for record in _decoded(state.records(catalogue.bucket), CatalogueRecord):
            for entry in record.versions:
                yield catalogue.kind, record.name, entry


def other_blobs(state: ControlState) -> dict[str, str]:
    """Digests of what jobs and uploaded files need, each with the name of what needs it."""
    files = _decoded(state.records(FILES_BUCKET), UploadedFile)
    found = {file.digest: f"file {file.id}" for file in files if not file.expired(state.taken_at)}
    for job in _decoded(state.records(JOBS_BUCKET), Job):
        found |= {file.digest: f"job {job.id}" for file in job.needed_files}
    return found


async def manifest_of(store: ArtifactStore, version: Version) -> tuple[bytes, FileList] | str:
    """A version's manifest in bytes and read, or what is wrong with it."""
    kind, name, entry = version
    data = await store.get_manifest(name, entry.version, kind)
    what = f"{kind} {name}:{entry.version}"
    if data is None:
        return f"the manifest of {what} is not in the store"
    if hashlib.sha256(data).hexdigest() != entry.digest:
        return f"the manifest of {what} was changed in the store"
    try:
        return data, FileList.decode(data)
    except ValidationError as error:
        return f"the manifest of {what} can't be read: {error.errors(include_url=False)[0]['msg']}"


async def missing(state: ControlState, store: ArtifactStore) -> list[str]:
    """What control state needs and the store lacks, a sentence each."""
    problems, needed = [], other_blobs(state)
    for version in versions(state):
        found = await manifest_of(store, version)
        if isinstance(found, str):
            problems.append(found)
        else:
            needed |= {file.digest: f"{version[0]} {version[1]}:{version[2].version}" for file in found[1].files}
    problems += [
        f"blob {digest} of {owner} is not in the store"
        for digest, owner in sorted(needed.items(), key=lambda item: (item[1], item[0]))
        if await store.blob_size(digest) is None
    ]
    return problems


def _decoded(records: tuple[StateRecord, ...], contract: type[Record]) -> Iterator[Record]:
    for record in records:
        try:
            yield contract.decode(record_bytes(record))
        except ValidationError as error:  # it travels all the same, without its files
            _log.error("record.unreadable", key=record.key, kind=contract.__name__, error=str(error))
