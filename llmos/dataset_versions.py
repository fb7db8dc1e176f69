"""Bring rows into the registry: read, check, upload, make a version; and get the rows of a version."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.client import Client
from llmos.import_journal import ImportJournal
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import NAME_RULE, is_name
from shared.contracts.registry import DatasetVersion
from shared.errors import InvalidInput
from shared.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from devtools.data.version import Imported

WORK_PREFIX = "llmos-data-"
"""Of the folders, below that for temporary files, in which rows are prepared."""
Progress = Callable[[str, float], None]


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that is removed at the end."""
    with scratch_folder(Path(tempfile.gettempdir()), WORK_PREFIX) as folder:
        yield folder


def check_name(name: str) -> None:
    """Raise InvalidInput unless `name` can be the name of a dataset."""
    if not is_name(name):
        raise InvalidInput(f"--name {name!r}: expected {NAME_RULE}", param="name")


def import_rows(
    client: Client,
    sources: Sequence[Path],
    name: str,
    *,
    form: str | None = None,
    skip_broken: bool = False,
    license: str | None = None,  # noqa: A002  # the manifest's word
    statement: str | None = None,
    aliases: tuple[str, ...] = (),
    journals: Path | None = None,
    progress: Progress,
) -> "tuple[DatasetVersion, Imported]":
    """A new version of dataset `name` with the rows of files. The same files again answer the version that exists."""
    check_name(name)
    client.datasets.list()  # a wrong URL or key fails here, before minutes of work
    from devtools.data.version import import_files  # noqa: PLC0415  # other commands start without it

    with work_folder() as folder:
        imported = import_files(
            sources,
            folder,
            form=form,
            skip_broken=skip_broken,
            license=license,
            statement=statement,
            progress=progress,
        )
        version = publish(
            client, name, imported.manifest, folder, aliases=aliases, journals=journals, progress=progress
        )
    return version, imported


def publish(
    client: Client,
    name: str,
    manifest: DatasetManifest,
    folder: Path,
    *,
    progress: Progress,
    aliases: tuple[str, ...] = (),
    journals: Path | None = None,
) -> DatasetVersion:
    """Upload what is in `folder` and make it a version."""
    with ImportJournal.opened(journals) if journals is not None else nullcontext() as journal:
        if journal is not None:
            journal.add(file.digest for file in manifest.files)
        client.datasets.upload(manifest, folder, progress)
        return client.datasets.create(name, manifest, aliases)
