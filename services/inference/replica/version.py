"""The version that a replica serves, as the node agent has laid it out and checked it."""

from pathlib import Path

from pydantic import ValidationError

from shared.contracts.manifest import FOLDER_MANIFEST, Manifest
from shared.errors import CorruptFile, NotFound

TOKENIZER_FILE = "tokenizer.json"


def read_manifest(folder: Path) -> Manifest:
    """The manifest in the version's folder.

    Raises:
        NotFound: There is none.
        CorruptFile: It can't be read.
    """
    try:
        return Manifest.decode((folder / FOLDER_MANIFEST).read_bytes())
    except OSError as error:
        raise NotFound(f"LLMOS_REPLICA_FILES={folder} has no manifest: {error.strerror}") from error
    except ValidationError as error:
        raise CorruptFile(f"the manifest in {folder} can't be read: {error}") from error
