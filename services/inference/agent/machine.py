"""The nodes of one machine: each keeps its id, and together they offer no more than the machine has.

They share a folder, in which each node has a file: its name is the id, its content what the node offers. The file is
held by `flock` while the node's process lives. One that is not held is an id of an earlier node; the next takes it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from shared.contracts.resources import Resources
from shared.errors import Conflict, InvalidInput, Unavailable

_GUARD = ".lock"
"""Held while the files are compared: of two nodes that start at once, one sees the other."""
_ADVICE = "set LLMOS_INFERENCE_MEMORY and LLMOS_INFERENCE_THREADS (in compose INFERENCE_MEMORY and INFERENCE_THREADS)"


@contextmanager
def offering(folder: Path, offered: Resources, machine: Resources, kind: str, node_id: str | None) -> Iterator[str]:
    """Offer a part of the machine while the block runs; yields the node's id.

    Args:
        folder: Shared by all nodes of the machine.
        offered: By this node.
        machine: All that there is.
        kind: Ids begin with it; a node takes only an id of its kind.
        node_id: The id, or None for one that no node holds, else a new one.

    Raises:
        Conflict: A node of this machine runs with `node_id`.
        InvalidInput: With this node, the nodes would offer more than there is.
        Unavailable: The folder can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        guard = os.open(folder / _GUARD, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"LLMOS_INFERENCE_MACHINE_DIR={folder} can't be used: {error.strerror}") from error
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        _check_fit(folder, offered, machine)
        held, path = _hold(folder, kind, node_id)
    finally:
        os.close(guard)
    try:
        path.write_bytes(offered.encode())
        yield path.name
    finally:
        os.close(held)


def _check_fit(folder: Path, offered: Resources, machine: Resources) -> None:
    others = {path.name: _offer(path) for path in _files(folder) if _is_held(path)}
    memory = sum(one.memory for one in others.values())
    threads = sum(one.threads for one in others.values())
    if memory + offered.memory > machine.memory or threads + offered.threads > machine.threads:
        nodes = ", ".join(sorted(others)) or "no other node"
        raise InvalidInput(
            f"this node would offer {_words(offered)}; the machine has {_words(machine)}, of which {nodes} offers "
            f"{_words(Resources(memory=memory, threads=threads))}; {_ADVICE} so that all nodes together fit",
            param="LLMOS_INFERENCE_MEMORY",
        )


def _words(resources: Resources) -> str:
    return f"{resources.memory} bytes and {resources.threads} threads"


def _hold(folder: Path, kind: str, node_id: str | None) -> tuple[int, Path]:
    """Take an id: the descriptor that holds it, and its file."""
    if node_id is not None:
        held = _try_to_hold(folder / node_id)
        if held is None:
            raise Conflict(
                f"a node of this machine runs as {node_id!r}; give each its own LLMOS_INFERENCE_NODE_ID",
                param="LLMOS_INFERENCE_NODE_ID",
            )
        return held, folder / node_id
    for path in _files(folder):
        if path.name.startswith(f"{kind}-") and (held := _try_to_hold(path)) is not None:
            return held, path
    path = folder / f"{kind}-{uuid4().hex[:8]}"
    held = _try_to_hold(path)
    assert held is not None, "the id is new"
    return held, path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != _GUARD)


def _try_to_hold(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_held(path: Path) -> bool:
    held = _try_to_hold(path)
    if held is not None:
        os.close(held)
    return held is None


def _offer(path: Path) -> Resources:
    with suppress(OSError, ValidationError):
        return Resources.decode(path.read_bytes())
    return Resources(memory=0, threads=0)  # its node is being started
