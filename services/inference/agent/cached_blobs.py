"""The node's copies of blobs: checked when asked, and scrubbed in the background."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import ValidationError

from shared.contracts.manifest import FOLDER_MANIFEST, FileList
from shared.contracts.scrub import CheckBlob, CheckedBlob
from shared.errors import Unavailable
from shared.storage.check import check_blob, read_file

_DIGEST = re.compile(r"[0-9a-f]{64}")


class CachedBlobs:
    """The blobs in a cache folder, for `shared.service.scrub`, and the endpoint.

    Args:
        cache: The node's cache folder (`services.inference.agent.version_files`).
    """

    def __init__(self, cache: Path) -> None:
        self._versions = cache / "versions"
        self._blobs = cache / "blobs" / "blobs"

    async def check_blob(self, request: CheckBlob) -> CheckedBlob:
        """Read one copy as fast as it goes."""
        return await check_blob(self.read(request.digest))

    async def digests(self) -> list[str]:
        """See `Blobs`."""
        return await asyncio.to_thread(self._list)

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """See `Blobs`."""
        return read_file(self._blobs / digest, digest)

    async def files(self, digest: str) -> tuple[str, ...]:
        """See `Blobs`. The folder of a version knows the digest of its manifest, not its name."""
        return await asyncio.to_thread(self._files, digest)

    def _list(self) -> list[str]:
        try:
            return sorted(path.name for path in self._blobs.iterdir() if _DIGEST.fullmatch(path.name))
        except FileNotFoundError:  # nothing was fetched yet
            return []
        except OSError as error:
            raise Unavailable(f"{self._blobs} can't be read: {error.strerror}") from error

    def _files(self, digest: str) -> tuple[str, ...]:
        found = []
        for manifest in sorted(self._versions.glob(f"*/{FOLDER_MANIFEST}")):
            try:
                files = FileList.decode(manifest.read_bytes()).files
            except (OSError, ValidationError):  # just removed
                continue
            found += [
                f"{file.path} of version {manifest.parent.name[:12]}" for file in files if file.digest == digest
            ]
        return tuple(found)
