"""A program that asks with one client, and what it says about itself."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
_COMMENTS = {".py": "#", ".mjs": "//"}
"""By the end of a file's name."""
_PIN = re.compile(r"^(?P<name>@?[^@=\[]+)(\[[^\]]+\])?(==|@)(?P<version>\d[^=@]*)$")


@dataclass(frozen=True, slots=True)
class Program:
    """One file."""

    path: Path
    packages: tuple[str, ...]
    """With their versions; the first is the client."""
    asks: str

    @property
    def is_python(self) -> bool:
        """Otherwise it is for Node.js."""
        return self.path.suffix == ".py"

    @property
    def client(self) -> tuple[str, str]:
        """(name, version)."""
        found = _PIN.match(self.packages[0])
        assert found is not None
        return found["name"], found["version"]


def read(path: Path) -> Program:
    """The program in a file; raises `ValueError` where its metadata is missing or wrong."""
    comment = _COMMENTS[path.suffix]
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        begin = lines.index(f"{comment} /// script")
        end = lines.index(f"{comment} ///", begin)
        metadata = tomllib.loads("\n".join(line.removeprefix(comment) for line in lines[begin + 1 : end]))
        packages, asks = tuple(metadata["dependencies"]), metadata["tool"]["llmos"]["asks"]
    except (ValueError, KeyError) as error:
        msg = f"{path}: expected '{comment} /// script' with dependencies and tool.llmos.asks ({error})"
        raise ValueError(msg) from error
    for package in packages:
        if _PIN.match(package) is None:
            msg = f"{path}: {package!r} has no exact version"
            raise ValueError(msg)
    return Program(path, packages, asks)


def programs(folder: Path = PROGRAMS) -> list[Program]:
    """All, by name."""
    return [read(path) for path in sorted(folder.iterdir()) if path.suffix in _COMMENTS]
