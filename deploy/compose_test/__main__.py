"""Run docker-compose.yml as it is, and check it: `python -m deploy.compose_test`; a line for each check.

Where a Docker engine answers, it is used, with the published images. Elsewhere, on Debian as root, one is made of
Debian's packages in a folder of the cache, and images that cannot be pulled are made here; all of it ends with this
program. JAEGER_BINARY names Jaeger's own program for its image; without it, a stand-in takes the spans. Where no
engine can be made, it says so and ends with 0, or with 1 if LLMOS_REQUIRE_COMPOSE=1.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.compose_test import engine, packages
from deploy.compose_test.base_images import Builder, Names
from deploy.compose_test.project import ROOT, ComposeError, Project
from deploy.compose_test.run import check_all

INSIDE = "--inside"


def existing_engine() -> str | None:
    """Why no engine that runs already can be used, or None."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    answered = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False)
    if answered.returncode != 0 or not answered.stdout.strip():
        return "no Docker engine answers"
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return None if plugin.returncode == 0 else "docker has no compose plugin"


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """One test at a time has engine and images; another one waits."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "compose.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def engine_folder(cache: Path) -> Path:
    """Where the engine's files and images are kept, by what they are made of; what is of other content is removed."""
    made_of = [*sorted((ROOT / "requirements").glob("*.lock")), ROOT / "deploy/Dockerfile"]
    texts = [*(path.read_bytes() for path in made_of), sys.version.encode(), packages.LIST.encode()]
    digest = hashlib.sha256(b"".join(texts)).hexdigest()[:16]
    folder = cache / f"compose-{digest}"
    for other in cache.glob("compose-*/"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def own_engine(folder: Path) -> Iterator[tuple[Mapping[str, str], dict[str, str]]]:
    """An engine with the images that cannot be pulled; yields `docker`'s environment, and what is in the images."""
    with (
        tempfile.TemporaryDirectory(prefix="llmos-engine-") as state,
        engine.running(folder / "engine", f"llmos-{folder.name}", Path(state), folder / "data") as docker,
    ):
        binary = os.environ.get("JAEGER_BINARY")
        yield docker, Builder(folder / "engine", docker, names(docker), Path(binary) if binary else None).make()
        for unused in (["image", "prune", "--force"], ["builder", "prune", "--force", "--keep-storage=6GB"]):
            subprocess.run(["docker", *unused], env=docker, capture_output=True, check=False)


def names(docker: Mapping[str, str]) -> Names:
    """The images that docker-compose.yml would pull."""
    with tempfile.TemporaryDirectory(prefix="llmos-compose-") as folder:
        services = Project(Path(folder), docker, "metrics").config()["services"]
    return Names(
        python=f"python:{services['registry']['build']['args']['PYTHON']}",
        **{name: services[name]["image"] for name in ("nats", "minio", "jaeger", "prometheus")},
    )


def main() -> int:
    """0: all checks passed, or there can be no engine here; 1: one did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(INSIDE, type=Path, help=argparse.SUPPRESS)
    inside = parser.parse_args().inside
    required = os.environ.get("LLMOS_REQUIRE_COMPOSE") == "1"
    with ExitStack() as stack:
        if inside is not None:
            docker, images = stack.enter_context(own_engine(inside))
        elif (missing := existing_engine()) is None:
            docker, images = os.environ, {}
        elif reason := packages.why_not():
            print(f"docker compose was not run: {missing}, and none can be made: {reason}")
            return 1 if required else 0
        else:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            cache = Path(os.environ.get("LLMOS_CI_CACHE") or home / "llmos-ci")
            stack.enter_context(alone(cache))
            folder = engine_folder(cache)
            print(f"{missing}; one is made of packages of Debian {packages.SUITE} in {folder}", flush=True)
            files = packages.unpack(folder)
            command = [sys.executable, "-P", "-m", "deploy.compose_test", INSIDE, str(folder)]
            return engine.run_inside(files, f"llmos-{folder.name}", command)
        return check_all(docker, images)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ComposeError, OSError) as error:
        sys.exit(f"docker compose failed: {error}")
