"""A Docker engine from Debian's packages, unpacked into a folder: nothing is installed on this machine."""

import os
import shutil
import subprocess
from pathlib import Path

SUITE = "trixie"
"""Its Docker 26 with Compose 2.26 runs the file; that of Debian 12, Docker 20.10, does not."""
_MIRROR = "http://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_OF_SUITE = (
    "docker.io",
    "docker-cli",
    "docker-buildx",
    "docker-compose",
    "containerd",
    "iptables",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libseccomp2",
    "libxtables12",
    "tini",
)
_OF_THIS_MACHINE = (
    "runc",
    "slirp4netns",
    "libslirp0",
    "libglib2.0-0",
    "debootstrap",
    "busybox-static",
    "prometheus",
    "docker-registry",
)
"""Linked with the C library of their release, so they are taken from that of this machine."""
LIST = f"{SUITE} {_OF_SUITE} {_OF_THIS_MACHINE}"
"""What an engine is made of, in one text."""
_RULES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def why_not() -> str | None:
    """Why no engine can be made here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "an engine needs root"
    if missing := [tool for tool in ("apt-get", "dpkg", "unshare", "ip", "tar") if shutil.which(tool) is None]:
        return f"an engine of Debian's packages needs {' and '.join(missing)}"
    if not _KEYRING.exists():
        return f"the keys of Debian's archive are missing ({_KEYRING}; package debian-archive-keyring)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun for the engine's way out"
    return None


def unpack(folder: Path) -> Path:
    """The folder with the engine's files; fetched unless it is there whole."""
    root = folder / "engine"
    if root.exists():
        return root
    debs, partial = folder / "debs", folder / "engine.partial"
    for old in (debs, partial):
        shutil.rmtree(old, ignore_errors=True)
    debs.mkdir(parents=True)
    options = _private_apt(folder / "apt")
    _run(["apt-get", *options, "-qq", "update"], debs)
    _run(["apt-get", *options, "-qq", "download", *_OF_SUITE], debs)
    _run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *_OF_THIS_MACHINE], debs)
    for deb in sorted(debs.glob("*.deb")):
        _run(["dpkg", "-x", str(deb), str(partial)], debs)
    links = {f"usr/sbin/{name}": "xtables-nft-multi" for name in _RULES} | {"usr/bin/docker-init": "tini-static"}
    for name, target in links.items():
        (partial / name).unlink(missing_ok=True)
        (partial / name).symlink_to(target)
    plugins = partial / "docker-config/cli-plugins"
    plugins.mkdir(parents=True)
    for name in ("docker-compose", "docker-buildx"):
        (plugins / name).symlink_to(Path("../../usr/libexec/docker/cli-plugins") / name)
    shutil.rmtree(debs)
    partial.rename(root)
    return root


def _private_apt(folder: Path) -> list[str]:
    """Options with which apt reads `SUITE`'s list into a folder of its own: this machine's lists stay as they are."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {SUITE} main\n", encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command[:4])} … failed: {(done.stderr or done.stdout).strip()[-600:]}")
