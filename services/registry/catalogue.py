"""The rules of a record: a name with its versions. Pure: each function takes a record and returns the next one.

A number is reserved before its manifest is written, and entered after. So two registries never write the same
manifest, and a version is visible only when all of it is there. Numbers are never
reused: one that was reserved and not entered, or deleted, stays unused. A record without versions is nothing to the
outside; it only remembers the numbers.
"""

from collections.abc import Collection, Iterable, Mapping

from shared.contracts.manifest import Kind, Reference
from shared.contracts.registry import CatalogueRecord, VersionEntry
from shared.contracts.scheduler import Deployment
from shared.errors import Conflict, InvalidInput, NotFound

MAX_VERSIONS = 4000
"""Of one name: its record must stay well below what a KV value may hold."""
_NAMES_SHOWN = 10


def reserve(record: CatalogueRecord) -> tuple[CatalogueRecord, int]:
    """Take the next number; raises `Conflict` when there are `MAX_VERSIONS`."""
    if len(record.versions) >= MAX_VERSIONS:
        raise Conflict(f"{record.name} has {MAX_VERSIONS} versions, which is the limit; delete some first")
    number = record.next_version
    return record.model_copy(update={"next_version": number + 1}), number


def with_digest(record: CatalogueRecord, digest: str) -> VersionEntry | None:
    """The version whose manifest has `digest`, if there is one."""
    return next((entry for entry in record.versions if entry.digest == digest), None)


def enter(record: CatalogueRecord, entry: VersionEntry) -> CatalogueRecord:
    """Make a version visible under the number that was reserved for it.

    A manifest that another number already has changes nothing: see `with_digest`.
    """
    if with_digest(record, entry.digest) is not None:
        return record
    assert entry.version < record.next_version, "a number must be reserved before it is entered"
    assert all(entry.version != other.version for other in record.versions), "a number is entered once"
    versions = tuple(sorted((*record.versions, entry), key=lambda version: version.version))
    return record.model_copy(update={"versions": versions})


def point(record: CatalogueRecord, aliases: Iterable[str], version: int) -> CatalogueRecord:
    """Point `aliases` at `version`; raises `NotFound` when it does not exist."""
    require_version(record, version)
    return _with_aliases(record, record.aliases | dict.fromkeys(aliases, version))


def remove_alias(record: CatalogueRecord, alias: str) -> CatalogueRecord:
    """Take an alias away; raises `NotFound` naming those that exist."""
    require_alias(record, alias)
    return _with_aliases(record, {name: number for name, number in record.aliases.items() if name != alias})


def delete(record: CatalogueRecord, version: int | None) -> CatalogueRecord:
    """Delete a version, or all of them (None), with the aliases that point there; raises `NotFound`."""
    if version is not None:
        require_version(record, version)
    remaining = tuple(entry for entry in record.versions if version not in {None, entry.version})
    numbers = {entry.version for entry in remaining}
    left = record.model_copy(update={"versions": remaining})
    return _with_aliases(left, {name: number for name, number in record.aliases.items() if number in numbers})


def resolve(record: CatalogueRecord, reference: Reference) -> VersionEntry:
    """The version that `reference` means now: its number, its alias's, else the newest; raises `NotFound`."""
    if reference.version is not None:
        return require_version(record, reference.version)
    if reference.alias is not None:
        return require_version(record, require_alias(record, reference.alias))
    return record.versions[-1]


def require_name(records: Mapping[str, CatalogueRecord], name: str, kind: Kind) -> CatalogueRecord:
    """The record of a name that has versions; raises `NotFound` naming those that exist."""
    record = records.get(name)
    if record is None or not record.versions:
        there = [other for other, record in sorted(records.items()) if record.versions]
        raise NotFound(f"no {kind} {name!r}: {_list_of('there are', there)}", param=kind)
    return record


def require_version(record: CatalogueRecord, version: int) -> VersionEntry:
    """The entry with that number; raises `NotFound` naming those that exist."""
    for entry in record.versions:
        if entry.version == version:
            return entry
    numbers = [str(entry.version) for entry in reversed(record.versions)]
    raise NotFound(
        f"no version {record.name}:{version}: {_list_of('newest first, there are', numbers)}", param="version"
    )


def require_alias(record: CatalogueRecord, alias: str) -> int:
    """The number that an alias points at; raises `NotFound` naming those that exist."""
    number = record.aliases.get(alias)
    if number is None:
        raise NotFound(
            f"no alias {record.name}@{alias}: {_list_of('there are', sorted(record.aliases))}", param="alias"
        )
    return number


def require_unused(deployments: Iterable[Deployment], model: str, version: int | None) -> None:
    """Raise `Conflict` naming the deployments that use the version, or any version of the model (None)."""
    users = sorted(
        deployment.name
        for deployment in deployments
        if deployment.model == model and version in {None, deployment.version}
    )
    if users:
        what = model if version is None else f"{model}:{version}"
        raise Conflict(f"{what} is in use: {_list_of('undeploy', users)} first")


def parse_reference(text: str, kind: Kind = Kind.MODEL) -> Reference:
    """`name`, `name:3` or `name@prod`; raises `InvalidInput`."""
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text[:200]!r} is not a {kind} reference; expected 'name', 'name:3' or 'name@alias' in lower case",
            param="reference",
        ) from error


def check_integrity(record: CatalogueRecord) -> None:
    """Assert what must hold of every record."""
    numbers = [entry.version for entry in record.versions]
    digests = {entry.digest for entry in record.versions}
    assert numbers == sorted(set(numbers)), "versions ascend, each once"
    assert len(digests) == len(numbers), "a manifest is one version"
    assert all(1 <= number < record.next_version for number in numbers), "numbers come from reservations"
    assert set(record.aliases.values()) <= set(numbers), "aliases point at versions"
    assert list(record.aliases) == sorted(record.aliases), "aliases are in order"


def _with_aliases(record: CatalogueRecord, aliases: Mapping[str, int]) -> CatalogueRecord:
    return record.model_copy(update={"aliases": dict(sorted(aliases.items()))})


def _list_of(intro: str, names: Collection[str]) -> str:
    if not names:
        return "there are none"
    shown = list(names)[:_NAMES_SHOWN]
    more = len(names) - len(shown)
    return f"{intro} {', '.join(shown)}" + (f" and {more} more" if more else "")
