"""A file of a public set becomes the files of a suite."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from devtools.data.rows import Item
from devtools.data.version import Shards
from devtools.evaluate.forms import Record, read_items
from devtools.evaluate.scorers.catalogue import scorer_of
from shared.contracts.dataset import DatasetManifest, Source


def write_suite(
    path: Path,
    reader: Callable[[Record], Item],
    folder: Path,
    *,
    form: str,
    license: str | None = None,  # noqa: A002  # the manifest's word
) -> DatasetManifest:
    """Write the items of a file to shards in `folder`.

    Raises:
        NotFound, CorruptFile: The file can't be read, or is not of the form.
        InvalidInput: An item can't be scored; the message has its place.
    """
    rows = 0
    with Shards(folder) as shards:
        for rows, item in enumerate(read_items(path, reader), start=1):
            scorer_of(item, f"{path.name}, item {rows}")
            shards.write(item, path.name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    source = Source(name=path.name, digest=digest, format=form, rows=rows)
    return shards.manifest(sources=[source], license=license)
