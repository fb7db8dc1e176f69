"""Make the secrets of a compose deployment, once: `python3 deploy/make_secrets.py`. Needs nothing but Python 3.

`.env`                     passwords of the users of bus and store, and a limit for nodes' memory; mode 0600
`deploy/secrets/admin-key` the first API key, mounted into the gateway
`deploy/secrets/job-key`   empty: for the key with which evaluations ask the gateway, mounted into nodes
`deploy/secrets/metrics-key` empty: for the key with which Prometheus asks gateways

What is there stays as it is; what is missing is made at random. The gateway runs as another user than the one who
owns the key file, so the file may be read by all and its folder entered by its owner alone: a mount needs no folder.
"""

import argparse
import os
import secrets
from pathlib import Path

ENV_SECRETS = (
    "NATS_PASSWORD_OWNER",
    "NATS_PASSWORD_REGISTRY",
    "NATS_PASSWORD_SCHEDULER",
    "NATS_PASSWORD_INFERENCE",
    "NATS_PASSWORD_REPLICA",
    "NATS_PASSWORD_GATEWAY",
    "NATS_PASSWORD_MONITOR",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_SECRET_REGISTRY",
    "S3_SECRET_GATEWAY",
    "S3_SECRET_INFERENCE",
    "S3_SECRET_JOBS",
    "GRAFANA_PASSWORD",
)
MEMORY_LIMIT = "INFERENCE_MEMORY_LIMIT"
_HEADER = "# Secrets of this deployment, made by deploy/make_secrets.py. Keep it private; never commit it.\n"


def new_secret() -> str:
    """160 random bits. It begins with a letter: nats-server reads what begins with a digit as a number."""
    return "k" + secrets.token_hex(20)


def new_admin_key() -> str:
    """A key in the gateway's form."""
    return f"llmos-{secrets.token_urlsafe(32)}"


def memory_limit() -> int:
    """Bytes that a node's container may have: nine tenths of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10 * 9


def complete(env: str) -> str:
    """The text of `.env` with all secrets and the limit; what has a value stays."""
    lines = [line for line in env.splitlines() if not _is_empty(line)]
    given = {line.partition("=")[0].strip() for line in lines}
    made = {**{name: new_secret() for name in ENV_SECRETS}, MEMORY_LIMIT: str(memory_limit())}
    return "\n".join(lines + [f"{name}={value}" for name, value in made.items() if name not in given]) + "\n"


def make(root: Path) -> None:
    """Complete the secrets of the deployment whose docker-compose.yml lies in `root`."""
    env = root / ".env"
    _write(env, complete(env.read_text(encoding="utf-8") if env.exists() else _HEADER), mode=0o600)
    folder = root / "deploy" / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "admin-key").exists():
        _write(folder / "admin-key", new_admin_key() + "\n", mode=0o644)
    for name in ("job-key", "metrics-key"):
        if not (folder / name).exists():
            _write(folder / name, "", mode=0o644)


def _is_empty(line: str) -> bool:
    name, _, value = line.partition("=")
    return name.strip() in {*ENV_SECRETS, MEMORY_LIMIT} and not value.strip()


def _write(path: Path, text: str, *, mode: int) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(text)
    temporary.replace(path)


def main() -> None:
    """Make what is missing and say where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("root", type=Path, nargs="?", default=here, help="default: the folder of docker-compose.yml")
    root = parser.parse_args().root
    make(root)
    print(f"{root / '.env'} and {root / 'deploy/secrets/admin-key'} are complete")


if __name__ == "__main__":
    main()
