"""Pin the images of third parties by digest: `python3 deploy/pin_images.py`. Needs Docker with Compose, and Python 3.

Pulls each image of docker-compose.yml that is not built here, and the image that deploy/Dockerfile begins with, asks
Docker for the digest under which it was pulled, and writes it into `.env`: `NATS_IMAGE=nats:2.15.1@sha256:...`.
From then on Compose takes this image and no other. A variable that has a digest already stays; remove it to pin a
newer image.

Exit code 1: an image has no digest, or can't be pulled; `.env` stays as it was.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PYTHON = "PYTHON_TAG"


def images(config: Mapping[str, Any]) -> dict[str, str]:
    """Variable of `.env`: the image that it names, of all services that are not built here, and of the Dockerfile."""
    services = config["services"]
    built = {service["image"] for service in services.values() if "build" in service}
    found = {
        f"{name.upper()}_IMAGE": service["image"]
        for name, service in sorted(services.items())
        if service["image"] not in built
    }
    return found | {PYTHON: f"python:{services['registry']['build']['args']['PYTHON']}"}


def with_digest(image: str, repo_digests: list[str]) -> str:
    """`name:tag@sha256:...`; raises `ValueError` if the image was never pulled from a registry."""
    repository = image.rpartition(":")[0] if ":" in image.rpartition("/")[2] else image
    for known in repo_digests:
        name, _, digest = known.partition("@")
        if name == repository:
            return f"{image}@{digest}"
    raise ValueError(f"{image} has no digest: it was made here, not pulled from a registry")


def set_variables(env: str, values: Mapping[str, str]) -> str:
    """The text of `.env` with these values."""
    lines = [line for line in env.splitlines() if line.partition("=")[0].strip() not in values]
    return "\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n"


def pin(root: Path, only: Sequence[str] = ()) -> dict[str, str]:
    """Pin what is not pinned in the deployment at `root`: the new values by variable.

    Raises `ValueError` when one can't be pinned; nothing is written then.
    """
    profiles = ["--profile", "*"]
    config = json.loads(_docker(root, "compose", *profiles, "config", "--format", "json"))
    known, found = images(config), {}
    if unknown := set(only) - known.keys():
        raise ValueError(f"{min(unknown)} is no image's variable; there are {', '.join(sorted(known))}")
    for variable, image in known.items():
        if "@sha256:" in image or (only and variable not in only):
            continue
        _docker(root, "pull", "--quiet", image)
        digests = json.loads(_docker(root, "image", "inspect", "--format", "{{json .RepoDigests}}", image))
        pinned = with_digest(image, digests or [])
        found[variable] = pinned.removeprefix("python:") if variable == PYTHON else pinned
    if found:
        env = root / ".env"
        env.write_text(set_variables(env.read_text(encoding="utf-8"), found), encoding="utf-8")
    return found


def _docker(root: Path, *arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"docker {' '.join(arguments[:4])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def main() -> int:
    """Pin, and say what was pinned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("variables", nargs="*", metavar="VARIABLE", help="such as NATS_IMAGE; default: all")
    parser.add_argument("--root", type=Path, default=here, help="default: the folder of docker-compose.yml")
    given = parser.parse_args()
    try:
        found = pin(given.root, given.variables)
    except (ValueError, OSError) as error:
        sys.exit(f"nothing was pinned: {error}")
    for variable, image in found.items():
        print(f"{variable}={image}")
    print(f"{len(found)} images pinned in {given.root / '.env'}" if found else "all images are pinned already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
