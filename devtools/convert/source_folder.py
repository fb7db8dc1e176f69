"""The folder that an import reads, and nothing else: archives and repositories carry links to files elsewhere."""

from collections.abc import Iterable
from pathlib import Path

from shared.errors import InvalidInput

_DEPTH = 2
"""Levels of folders in which an import looks: `onnx/model.onnx`, `1_Pooling/config.json`."""


def check_source_folder(folder: Path) -> None:
    """Raise `InvalidInput` if anything in `folder` that an import may read is a link to a place outside.

    A snapshot in the hub's own cache consists of links into the `blobs` beside it; those are allowed.
    """
    check_inside(folder, _entries(folder, _DEPTH))


def check_inside(folder: Path, paths: Iterable[Path]) -> None:
    """Raise `InvalidInput` if one of `paths`, links followed, lies outside `folder`, or is no file and no folder."""
    root = folder.resolve()
    allowed = [root, *_hub_blobs(root)]
    for path in paths:
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # a circle of links
            target = Path("nowhere")
        if not any(target.is_relative_to(place) for place in allowed):
            raise InvalidInput(
                f"{path} leads to {target}, which is outside {folder}: an import reads its folder and nothing else;"
                " put a copy of the file there, or remove the link",
                param="source",
            )
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise InvalidInput(f"{path} is neither a file nor a folder; remove it", param="source")


def _entries(folder: Path, depth: int) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if depth > 1 and path.is_dir() and not path.is_symlink():
            yield from _entries(path, depth - 1)


def _hub_blobs(root: Path) -> list[Path]:
    """`models--org--name/blobs` for `models--org--name/snapshots/COMMIT`."""
    repository = root.parent.parent
    snapshot = root.parent.name == "snapshots" and repository.name.startswith("models--")
    return [repository / "blobs"] if snapshot else []
