"""Imports a package as if only its own lock file were installed: `python -P only_from_lock.py PACKAGE LOCK`.

Everything else that is installed here is refused by name. Prints how many modules were imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> set[str]:
    """The distributions of a lock file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {normalised(found[1]) for line in lines if (found := re.match(r"([A-Za-z0-9._-]+)==", line))}


class OnlyFrom(importlib.abc.MetaPathFinder):
    """Refuses each top-level module that is installed by distributions outside `allowed` alone."""

    def __init__(self, allowed: set[str]) -> None:
        self._allowed = allowed
        self._owners = importlib.metadata.packages_distributions()

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the interface
        target: ModuleType | None = None,  # noqa: ARG002  # the interface
    ) -> importlib.machinery.ModuleSpec | None:
        """None lets the other finders look."""
        owners = {normalised(owner) for owner in self._owners.get(name.partition(".")[0], ())} - {"llmos"}
        if owners and not owners & self._allowed:
            raise ModuleNotFoundError(f"{name} comes with {', '.join(sorted(owners))}, which is not in the lock")
        return None


def main() -> None:
    """Import every module of the package, and the store's client where the service has a store."""
    name, lock = sys.argv[1], Path(sys.argv[2])
    sys.meta_path.insert(0, OnlyFrom(locked(lock)))
    package = importlib.import_module(name)
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{name}.")]
    for module in names:
        importlib.import_module(module)
    if "minio" in locked(lock):
        importlib.import_module("shared.storage.s3")  # imported only when the store's URL asks for it
    sys.stdout.write(f"{len(names)}\n")


if __name__ == "__main__":
    main()
