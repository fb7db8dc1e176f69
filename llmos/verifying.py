"""Reads the files of versions where they are stored, and says which are damaged."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.client import Client
from llmos.progress import Progress
from llmos.versions import Versions
from shared.contracts.manifest import ManifestFile
from shared.contracts.registry import CatalogueRecord
from shared.contracts.scrub import STORE, BlobState
from shared.errors import LlmosError


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that is not as its manifest says.

    version: `smollm2:1`, with the kind in front where it is no model.
    file: Its path in the version.
    digest: That it should have.
    place: `store`, or a node's id.
    state: `damaged`; `missing` in the store; or `unknown`: it could not be checked.
    reason: Why it is unknown.
    """

    version: str
    file: str
    digest: str
    place: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what was found."""

    files: int
    bytes: int
    nodes: tuple[str, ...]
    findings: tuple[Finding, ...]


Named = tuple[str, ManifestFile]
"""A version's reference and a file of it."""


def files_of(client: Client, reference: str | None) -> list[Named]:
    """The files of one version of a model, or with None of all versions of models, datasets and reports."""
    if reference is not None:
        version = client.models.version(reference)
        return [(version.reference, file) for file in version.manifest.files]
    return [
        *_files("", client.models, client.models.list().models),
        *_files("dataset ", client.datasets, client.datasets.list().datasets),
        *_files("report ", client.reports, client.reports.list().reports),
    ]


def _files(prefix: str, versions: Versions[Any, Any, Any], records: Iterable[CatalogueRecord]) -> Iterator[Named]:
    for record in records:
        for entry in record.versions:
            reference = f"{record.name}:{entry.version}"
            for file in versions.version(reference).manifest.files:
                yield f"{prefix}{reference}", file


def verify(client: Client, files: Sequence[Named], progress: Progress) -> Verification:
    """Check each blob of `files` once in the store, and once in the cache of each node that has it.

    Args:
        client: Of the gateway.
        files: What to check.
        progress: Called with the stage `verify`.
    """
    nodes = tuple(view.status.id for view in client.nodes().nodes)
    users: dict[str, list[Named]] = {}
    for reference, file in files:
        users.setdefault(file.digest, []).append((reference, file))
    total = max(1, sum(named[0][1].size for named in users.values()))
    done, read, findings = 0, 0, list[Finding]()
    for digest, named in users.items():
        for place in (None, *nodes):
            state, reason = "", ""
            try:
                checked = client.check_blob(digest, place)
            except LlmosError as error:
                state, reason = "unknown", error.message
            else:
                read += checked.size
                if checked.state is BlobState.DAMAGED or (checked.state is BlobState.MISSING and place is None):
                    state = checked.state.value
            if state:
                findings += [
                    Finding(reference, file.path, digest, place or STORE, state, reason) for reference, file in named
                ]
        done += named[0][1].size
        progress("verify", done / total)
    return Verification(len(files), read, nodes, tuple(findings))
