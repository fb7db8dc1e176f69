"""The files of versions on their way to this node: a replica starts when they are here.

Only the agent has the credentials of the store. A replica finds a folder.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from services.inference.agent.version_files import fetch_manifest, version_folder
from shared.bus.tasks import end
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import LlmosError
from shared.storage.port import ArtifactStore

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0

_log = structlog.get_logger("llmos.agent")


@dataclass(slots=True)
class _Fetch:
    """One version."""

    task: asyncio.Task[None] | None = None
    folder: Path | None = None
    problem: str = ""
    held: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Keeps the folder."""


class Fetches:
    """Brings the files of versions into the node's cache and keeps them there while they are in use.

    Args:
        store: Where they come from.
        cache: The node's folder.
        on_change: Called when a version is here, or could not be fetched.
    """

    def __init__(self, store: ArtifactStore, cache: Path, on_change: Callable[[], None]) -> None:
        self._store = store
        self._cache = cache
        self._on_change = on_change
        self._fetches: dict[str, _Fetch] = {}
        """By the digest of the manifest."""

    def folder(self, assignment: ReplicaAssignment) -> Path | None:
        """The folder with the version's files; None while they are fetched, which begins with this call."""
        fetch = self._fetches.setdefault(assignment.digest, _Fetch())
        if fetch.task is None:
            fetch.task = asyncio.create_task(self._fetch(fetch, assignment), name=f"fetch {assignment.digest[:12]}")
        return fetch.folder

    def problem(self, assignment: ReplicaAssignment) -> str:
        """Why the version could not be fetched so far; empty: it could, or is under way. It is tried again."""
        return self._fetches[assignment.digest].problem

    async def keep_only(self, digests: set[str]) -> None:
        """Give up all other versions: their files may be removed from the cache."""
        for digest in self._fetches.keys() - digests:
            fetch = self._fetches.pop(digest)
            await end(fetch.task)
            await fetch.held.aclose()

    async def _fetch(self, fetch: _Fetch, assignment: ReplicaAssignment) -> None:
        pause = RETRY_FIRST_S
        while fetch.folder is None:
            try:
                manifest = await fetch_manifest(self._store, assignment)
                folder = version_folder(self._store, manifest, assignment.digest, self._cache)
                fetch.folder = await fetch.held.enter_async_context(folder)
                fetch.problem = ""
            except (LlmosError, OSError) as error:
                fetch.problem = error.message if isinstance(error, LlmosError) else str(error)
                _log.warning("version.not_fetched", digest=assignment.digest, error=fetch.problem, retrying=True)
                self._on_change()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX_S)
        self._on_change()
