"""All checks, in the order in which they build on one another."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from deploy.compose_test import answers, confinement, digests, failures
from deploy.compose_test.load import Load
from deploy.compose_test.project import TWICE, Project
from deploy.compose_test.report import Report

_SHARE = {"INFERENCE_MEMORY": str(4 << 30), "INFERENCE_THREADS": "1"}
"""Of a node: two of them fit a machine with two CPUs."""
_KILLED = ("registry", "scheduler", "monitor", "jaeger", "minio", "prometheus", "inference", "nats", "gateway")


def check_all(docker: Mapping[str, str], images: Mapping[str, str]) -> int:
    """Check it; 0 if all is as it should be.

    Args:
        docker: The environment of `docker`.
        images: What stands behind images that were made here; empty where all are pulled.
    """
    for name, what in images.items():
        print(f"{name}: {what}", flush=True)
    left_out = ["grafana"] if images else []
    if left_out:
        print("Grafana: not run; its image cannot be pulled, and no package has it", flush=True)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="llmos-compose-") as folder:
        project = Project(Path(folder), docker, "metrics", left_out, _SHARE)
        try:
            _run(report, project, docker, made_here=bool(images))
        finally:
            if report.failed:
                print(project.compose("logs", "--no-color", "--tail", "15"), flush=True)
            project.down("--volumes")
    print(f"{report.passed} passed, {len(report.failed)} failed")
    return 1 if report.failed else 0


def _run(report: Report, project: Project, docker: Mapping[str, str], *, made_here: bool) -> None:
    if not report.check("build", lambda: _build(project)):
        return
    up = "all healthy, two nodes and two gateways"
    if not report.check(up, lambda: f"after {project.up(*TWICE):.1f} s, {len(project.containers())} containers"):
        return
    report.check("rights of containers", partial(confinement.rights, project))
    if not report.check("a model is brought in and deployed", partial(answers.deploy, project, 2)):
        return
    for name, look in {
        "chat through the published port": answers.chat,
        "files in the S3 server": answers.stored,
        "users of the S3 server": answers.users,
        "MinIO's root password": answers.root_is_not_used,
        "trace in Jaeger": answers.traced,
        "Prometheus scrapes": answers.scraped,
    }.items():
        report.check(name, partial(look, project))
    load = Load(project.gateways(), project.key)
    load.learn()
    report.check("two gateways and two nodes share the load", partial(failures.shared, project, load))
    for service in _KILLED:
        report.check(f"{service} killed under eight streams", partial(failures.killed, project, load, service))
    for service in ("gateway", "inference"):
        report.check(f"docker stop of the {service} drains", partial(failures.drained, project, service))
    report.check("nothing written outside volumes", partial(confinement.writes, project))
    if made_here and (registry := digests.program(docker)) is not None:
        report.check("images by digest", partial(digests.pinned, project, registry, project.tree.parent))
    report.check("down and up", partial(failures.down_and_up, project))
    report.check("a second node that would promise the machine twice", partial(failures.refused, project))


def _build(project: Project) -> str:
    project.compose("config", "--quiet")
    project.compose("--progress=plain", "build", timeout=1500)
    sizes = []
    for service in ("registry", "scheduler", "inference", "gateway", "monitor"):
        size = int(project.docker("image", "inspect", "--format", "{{.Size}}", f"llmos/{service}"))
        sizes.append(f"{service} {size / 1e6:.0f} MB")
    return ", ".join(sizes)
