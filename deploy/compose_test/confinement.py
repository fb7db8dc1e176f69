"""What a container may do, and what it did: as the engine has it, not as the file says."""

from deploy.compose_test.project import Project
from deploy.compose_test.report import expect

_OF_THE_ENGINE = {"/run", "/run/secrets", "/tmp", "/usr", "/usr/sbin", "/usr/sbin/docker-init", "/sbin"}  # noqa: S108
"""What the engine itself makes in a container's layer, to mount secrets, /tmp and its init there."""


def rights(project: Project) -> str:
    """Each container, third parties' too: root read-only, no capability, no new privilege, limits."""
    names = project.containers(ended=True)
    for name in names:
        host = project.inspect(name)["HostConfig"]
        expect(host["ReadonlyRootfs"], f"{name}: its root can be written")
        expect(host["CapDrop"] == ["ALL"] and not host["CapAdd"], f"{name}: it has capabilities")
        expect("no-new-privileges:true" in host["SecurityOpt"], f"{name}: it may get new privileges")
        expect(not host["Privileged"], f"{name}: it is privileged")
        expect((host["PidsLimit"] or 0) > 0, f"{name}: no limit of pids")
        expect((host["Memory"] or 0) > 0, f"{name}: no limit of memory")
        expect(host["NetworkMode"].startswith(project.name), f"{name}: on the network {host['NetworkMode']}")
    return f"{len(names)} containers: read-only root, no capabilities, no new privileges, limits of pids and memory"


def writes(project: Project) -> str:
    """No container has written outside its volumes, and none has a socket of the host."""
    volumes = 0
    for name in project.containers(ended=True):
        changed = {line.split(maxsplit=1)[1] for line in project.docker("diff", name).splitlines() if line}
        mounts = project.inspect(name)["Mounts"]
        targets = {mount["Destination"] for mount in mounts}
        made = {path for path in changed if path not in _OF_THE_ENGINE and not _leads_to(path, targets)}
        expect(not made, f"{name} wrote {sorted(made)[:5]}")
        for mount in mounts:
            expect(".sock" not in mount["Source"], f"{name} has the socket {mount['Source']}")
            expect(mount["Type"] == "volume" or not mount["RW"], f"{name} may write {mount['Source']}")
            volumes += mount["Type"] == "volume"
    return f"nothing outside {volumes} mounts of volumes; no socket of the host, no folder of it that can be written"


def _leads_to(path: str, targets: set[str]) -> bool:
    """Whether a mount lies at or below a path."""
    return any(target == path or target.startswith(f"{path}/") for target in targets)
