"""Makes a version, so that it is visible whole or not at all, also when others are made and when we are killed.

    check blobs -> reserve a number (record) -> write the manifest (store) -> enter the number (record) -> check blobs

The second check is for a garbage collection that removed an old blob between the first and the entry.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from services.registry.catalogue import delete, enter, point, reserve, with_digest
from services.registry.files import missing_file, require_files
from services.registry.manifests import digest_of, encode_manifest
from services.registry.records import Change, Deed, Records
from shared.contracts.manifest import FileList, Kind, Manifest
from shared.contracts.registry import CatalogueRecord, CreateVersion, VersionEntry
from shared.contracts.sampling import version_defaults
from shared.errors import Conflict, InvalidInput, NotFound, StorageFull
from shared.storage.port import ArtifactStore


class Creation(NamedTuple):
    """The version that a request led to."""

    record: CatalogueRecord
    entry: VersionEntry
    created: bool
    """False when the same manifest was a version already."""


async def create_version(
    records: Records,
    store: ArtifactStore,
    request: CreateVersion,
    manifest: FileList,
    *,
    kind: Kind,
    now: Callable[[], datetime],
) -> Creation:
    """The version that `request` and `manifest` describe: a new one, or the one with the same manifest.

    Raises:
        InvalidInput: A blob is missing or has another size, or no request could have a default.
        Conflict: The name has too many versions.
        StorageFull: The disk has no room; no version was made.
    """
    if isinstance(manifest, Manifest):
        _check_defaults(manifest)
    await require_files(store, manifest)
    data = encode_manifest(manifest)
    digest = digest_of(data)
    record = await records.get(request.name)
    existing = with_digest(record, digest) if record else None
    if existing is not None:
        with suppress(NotFound):  # deleted since: make it again
            change = await records.change(
                request.name,
                lambda record: point(record, request.aliases, existing.version),
                lambda _: Deed(
                    "alias.set",
                    f"{request.name}@{','.join(request.aliases)}",
                    {"version": str(existing.version), **of(kind)},
                ),
            )
            return Creation(change.after, existing, created=False)
    number = await _write_manifest(records, store, request.name, data, kind)
    ours = VersionEntry(version=number, digest=digest, size=manifest.size, created_at=now())
    try:
        record = (
            await records.change(
                request.name,
                lambda record: _enter(record, ours, request.aliases),
                lambda change: _entered(change, ours, request.aliases, kind),
            )
        ).after
    except StorageFull:  # else the next start of the registry would find a manifest, and make the version
        await store.delete_manifest(request.name, number, kind)
        raise
    entry = with_digest(record, digest)
    assert entry is not None, "it was entered just now, by us or by a faster process"
    if entry.version != number:
        await store.delete_manifest(request.name, number, kind)
        return Creation(record, entry, created=False)
    await _require_still_there(records, store, manifest, kind=kind, name=request.name, number=number)
    return Creation(record, entry, created=True)


def _check_defaults(manifest: Manifest) -> None:
    """Here and not in the contract: a version that exists stays readable."""
    try:
        version_defaults(manifest.defaults)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(
            f"the default {first['loc'][0]} is {str(first['input'])[:80]!r}, which no request could have:"
            f" {first['msg']}",
            param="manifest.defaults",
        ) from None


async def _write_manifest(records: Records, store: ArtifactStore, name: str, data: bytes, kind: Kind) -> int:
    while True:
        reserved = await records.change(
            name,
            lambda record: reserve(record)[0],
            lambda change: Deed("version.reserved", f"{name}:{change.after.next_version - 1}", of(kind)),
        )
        number = reserved.after.next_version - 1
        try:
            await store.put_manifest(name, number, data, kind)
        except Conflict:
            continue  # left over from a catalogue that was lost: its numbers are taken
        return number


def of(kind: Kind) -> dict[str, str]:
    """In events: what the version is of, where it is no model."""
    return {} if kind is Kind.MODEL else {"of": str(kind)}


def _entered(change: Change, entry: VersionEntry, aliases: tuple[str, ...], kind: Kind) -> Deed:
    winner = with_digest(change.after, entry.digest)
    assert winner is not None
    said = {"digest": entry.digest, "aliases": ",".join(aliases), **of(kind)}
    made = "version.created" if winner == entry else "alias.set"
    return Deed(made, f"{change.after.name}:{winner.version}", {name: value for name, value in said.items() if value})


def _enter(record: CatalogueRecord, entry: VersionEntry, aliases: tuple[str, ...]) -> CatalogueRecord:
    entered = enter(record, entry)
    winner = with_digest(entered, entry.digest)
    assert winner is not None
    return point(entered, aliases, winner.version)


async def _require_still_there(
    records: Records, store: ArtifactStore, manifest: FileList, *, kind: Kind, name: str, number: int
) -> None:
    problem = await missing_file(store, manifest.files)
    if problem is None:
        return
    with suppress(NotFound):
        await records.change(
            name,
            lambda record: delete(record, number),
            lambda _: Deed("version.deleted", f"{name}:{number}", {"reason": problem, **of(kind)}),
        )
    await store.delete_manifest(name, number, kind)
    raise InvalidInput(f"{problem} (it was removed as garbage meanwhile)", param="manifest.files")
