"""Makes the catalogue again from the manifests in the store, when the bucket was lost."""

import structlog
from pydantic import ValidationError

from services.registry.catalogue import enter
from services.registry.files import missing_file
from services.registry.manifests import digest_of
from services.registry.records import Records
from shared.contracts.manifest import FileList
from shared.contracts.registry import AnyCatalogue, CatalogueRecord, VersionEntry
from shared.storage.port import ArtifactStore

_log = structlog.get_logger("llmos.registry")


async def rebuild(records: Records, store: ArtifactStore, catalogue: AnyCatalogue) -> list[str]:
    """Fill an empty catalogue with every version whose files are all there; returns their references.

    Does nothing when there is a record. Aliases are not in the store and stay lost; the times are those of the
    manifests' files.
    """
    if await records.all():
        return []
    found: dict[str, CatalogueRecord] = {}
    for (name, number), stored in sorted((await store.manifest_stats(catalogue.kind)).items()):
        record = found.get(name, CatalogueRecord(name=name)).model_copy(update={"next_version": number + 1})
        data = await store.get_manifest(name, number, catalogue.kind)
        manifest = _decode(data, catalogue.manifest, f"{name}:{number}")
        if data is not None and manifest is not None:
            problem = await missing_file(store, manifest.files)
            if problem is None:
                entry = VersionEntry(
                    version=number, digest=digest_of(data), size=manifest.size, created_at=stored.modified
                )
                record = enter(record, entry)
            else:
                _log.warning("version.not_restored", version=f"{name}:{number}", reason=problem)
        found[name] = record
    restored = [
        f"{record.name}:{entry.version}"
        for record in found.values()
        if await records.create(record)
        for entry in record.versions
    ]
    if found:
        _log.warning("catalogue.rebuilt", of=catalogue.kind, versions=restored, consequence="aliases are lost")
    return restored


def _decode(data: bytes | None, contract: type[FileList], reference: str) -> FileList | None:
    try:
        return contract.decode(data) if data is not None else None
    except ValidationError as error:
        _log.warning("version.not_restored", version=reference, reason=f"its manifest can't be read: {error}")
        return None
