"""Images by digest, with a registry of the test: what deploy/pin_images.py writes is what Compose then runs."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from deploy.compose_test.project import ROOT, ComposeError, Project, free_ports
from deploy.compose_test.report import eventually, expect
from shared.service.tether import tethered

_PINNED = ("nats", "minio", "jaeger", "prometheus")
_CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def pinned(project: Project, registry: Path, folder: Path) -> str:
    """Push what was made here, pin it, and have it in the file as Compose reads it.

    Args:
        project: Its `.env` is changed.
        registry: The program `docker-registry`.
        folder: For what is pushed.
    """
    images = {name: project.config()["services"][name]["image"] for name in _PINNED}
    try:
        _pin(project, "NATS_IMAGE")
    except ComposeError as refused:
        expect("nothing was pinned" in str(refused), str(refused))
    else:
        raise AssertionError("an image that was never pulled was pinned")
    (port,) = free_ports(1)
    config = folder / "registry.yml"
    config.write_text(_CONFIG.format(folder=folder / "images", port=port), encoding="utf-8")
    serve = tethered(str(registry), "serve", str(config))
    with subprocess.Popen(
        serve, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: _answers(port), 20, "the registry of images answers")
            moved = {name: f"localhost:{port}/{image.rpartition('/')[2]}" for name, image in images.items()}
            for name, image in images.items():
                project.docker("tag", image, moved[name])
                project.docker("push", "--quiet", moved[name], timeout=300)
            project.add_to_env({f"{name.upper()}_IMAGE": image for name, image in moved.items()})
            _pin(project, *(f"{name.upper()}_IMAGE" for name in _PINNED))
        finally:
            process.terminate()
    services = project.config()["services"]
    for name in _PINNED:
        expect(services[name]["image"].startswith(f"{moved[name]}@sha256:"), f"{name}: {services[name]['image']}")
    return f"{len(_PINNED)} images pinned: {services['nats']['image'].rpartition('/')[2][:60]}…"


def _pin(project: Project, *variables: str) -> None:
    project.run([sys.executable, "-P", str(ROOT / "deploy/pin_images.py"), "--root", str(project.tree), *variables])


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def program(docker: Mapping[str, str]) -> Path | None:
    """`docker-registry` among the engine's files; None with an engine that is not of the test's own."""
    for folder in docker["PATH"].split(":"):
        if (Path(folder) / "docker-registry").exists():
            return Path(folder) / "docker-registry"
    return None
