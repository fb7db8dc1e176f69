"""The files of versions on their way to this node: a replica starts when they are here.

Only the agent has the credentials of the store. A replica finds a folder.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from opentelemetry import trace

from services.inference.agent.damage import Report
from services.inference.agent.version_files import fetch_manifest, version_folder
from shared.bus.tasks import end
from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import ReplicaAssignment
from shared.errors import LlmosError
from shared.storage.port import ArtifactStore
from shared.telemetry import genai, origins

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 10.0

_log = structlog.get_logger("llmos.agent")
_tracer = trace.get_tracer("llmos.agent")


@dataclass(slots=True)
class _Fetch:
    """One version."""

    task: asyncio.Task[None] | None = None
    folder: Path | None = None
    manifest: Manifest | None = None
    problem: str = ""
    verified: bool = False
    """Whether no replica has loaded the files since they were checked."""
    held: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Keeps the folder."""


class Fetches:
    """Brings the files of versions into the node's cache and keeps them there while they are in use.

    Args:
        store: Where they come from.
        cache: The node's folder.
        on_change: Called when a version is here, or could not be fetched.
        report: Makes what is told of each damaged file of an assignment.
    """

    def __init__(
        self,
        store: ArtifactStore,
        cache: Path,
        on_change: Callable[[], None],
        report: Callable[[ReplicaAssignment], Report],
    ) -> None:
        self._store = store
        self._cache = cache
        self._on_change = on_change
        self._report = report
        self._fetches: dict[str, _Fetch] = {}
        """By the digest of the manifest."""

    def folder(self, assignment: ReplicaAssignment) -> Path | None:
        """The folder with the version's files; None while they are fetched, which begins with this call."""
        fetch = self._fetches.setdefault(assignment.digest, _Fetch())
        if fetch.task is None:
            fetch.task = asyncio.create_task(self._fetch(fetch, assignment), name=f"fetch {assignment.digest[:12]}")
        return fetch.folder

    async def verify(self, assignment: ReplicaAssignment) -> None:
        """Check the files before a replica loads them; a damaged one is fetched again.

        Those that were fetched or checked just now are not read twice. The store is asked only for damaged files.

        Raises:
            CorruptFile: A file is damaged in the store too.
            LlmosError: It could not be fetched.
            OSError: The cache can't be written.
        """
        fetch = self._fetches[assignment.digest]
        if fetch.verified or fetch.manifest is None:
            fetch.verified = False
            return
        held = AsyncExitStack()
        folder = version_folder(self._store, fetch.manifest, assignment.digest, self._cache, self._report(assignment))
        await held.enter_async_context(folder)
        before, fetch.held = fetch.held, held
        await before.aclose()
        if self._fetches.get(assignment.digest) is not fetch:  # given up meanwhile
            await held.aclose()

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
                with origins.working(
                    _tracer, f"fetch {assignment.model}", assignment.origin, _attributes(assignment)
                ) as span:
                    fetch.manifest = await fetch_manifest(self._store, assignment)
                    span.set_attribute(genai.BYTES, sum(file.size for file in fetch.manifest.files))
                    folder = version_folder(
                        self._store, fetch.manifest, assignment.digest, self._cache, self._report(assignment)
                    )
                    fetch.folder = await fetch.held.enter_async_context(folder)
                fetch.problem, fetch.verified = "", True
            except (LlmosError, OSError) as error:
                fetch.problem = error.message if isinstance(error, LlmosError) else str(error)
                _log.warning("version.not_fetched", digest=assignment.digest, error=fetch.problem, retrying=True)
                self._on_change()
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX_S)
        self._on_change()


def _attributes(assignment: ReplicaAssignment) -> dict[str, str | int]:
    return {
        genai.MODEL: assignment.model,
        genai.MODEL_VERSION: assignment.version,
        genai.REPLICA: assignment.id,
    }
