"""Everything into one file, while the system runs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.bus.port import Bus
from shared.contracts.state import ControlState, SystemRecord
from shared.errors import CorruptFile, NotFound, Unavailable
from shared.state.archive import HEADER, STATE, ArchiveWriter, BackupHeader
from shared.state.reading import read_state, summary
from shared.state.references import manifest_of, other_blobs, versions
from shared.storage.layout import blob_key, manifest_key
from shared.storage.port import ArtifactStore

_TRIES = 3

Progress = Callable[[float], None]
"""Called with the part that is done."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written."""

    summary: str
    """What control state it has."""
    blobs: int
    size: int
    """Bytes of the file."""
    problems: tuple[str, ...]
    """What is not in it because the store does not have it, a sentence each."""


async def write_backup(
    bus: Bus,
    store: ArtifactStore,
    system: SystemRecord | None,
    path: Path,
    *,
    weights: bool,
    now: Callable[[], datetime],
    progress: Progress = lambda _: None,
) -> Backup:
    """Write control state, manifests and, with `weights`, all files that they need.

    Versions never change, so files may be copied while the system goes on. If one was deleted before it was copied,
    the backup begins again.

    Raises:
        Conflict: There is a file at `path`.
        Unavailable: Bus or store can't be reached, or something changes all the time.
    """
    for _ in range(_TRIES):
        state = await read_state(bus, system, now())
        written = await write_state(store, state, path, weights=weights, progress=progress)
        if not written.problems or (await read_state(bus, system, now())).buckets == state.buckets:
            return written
        path.unlink()  # noqa: ASYNC240  # a command with nothing else to do
    raise Unavailable("versions were deleted all the time while the backup was written; try again", retry_after=10.0)


async def write_state(
    store: ArtifactStore, state: ControlState, path: Path, *, weights: bool, progress: Progress = lambda _: None
) -> Backup:
    """Write `state`, and what it needs of the store, as `write_backup` does."""
    with ArchiveWriter(path) as archive:
        header = BackupHeader(
            format=state.format, llmos=state.llmos, system=state.system, taken_at=state.taken_at, weights=weights
        )
        archive.add(HEADER, header.encode())
        archive.add(STATE, state.encode())
        blobs, problems = other_blobs(state), []
        for version in versions(state):
            kind, name, entry = version
            found = await manifest_of(store, version)
            if isinstance(found, str):
                problems.append(found)
                continue
            archive.add(manifest_key(name, entry.version, kind), found[0])
            blobs |= {file.digest: f"{kind} {name}:{entry.version}" for file in found[1].files}
        copied = 0
        if weights:
            sizes = {digest: await store.blob_size(digest) for digest in sorted(blobs)}
            total, done = sum(size or 0 for size in sizes.values()), 0
            for digest, size in sizes.items():
                problem = await _copy(store, archive, digest, size)
                if problem is not None:
                    problems.append(f"{problem}, which {blobs[digest]} needs")
                else:
                    copied += 1
                done += size or 0
                progress(done / total if total else 1.0)
        archive.finish()
        return Backup(summary(state), copied, archive.size, tuple(problems))


async def _copy(store: ArtifactStore, archive: ArchiveWriter, digest: str, size: int | None) -> str | None:
    """Copy a blob; returns what is wrong with it."""
    if size is None:
        return f"the store has no blob {digest}"
    try:
        await archive.add_chunks(blob_key(digest), size, store.read_blob(digest))
    except (CorruptFile, NotFound) as error:
        return error.message
    return None
