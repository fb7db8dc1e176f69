"""Start docker-compose.yml for real, ask a question, take it down: `python -m deploy.try_compose`.

Works in a project of its own, on free ports, with secrets and volumes of its own that are removed afterwards. Where
no Docker engine answers it says so and ends with 0: nothing was tested and nothing failed.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.make_secrets import make
from llmos.cli.demo import demo_gguf
from llmos.client import Client, wait_ready
from llmos.importing import import_model
from shared.contracts.scheduler import Deploy
from shared.errors import LlmosError

ROOT = Path(__file__).resolve().parents[1]
QUESTION = [
    {"role": "system", "content": "You are a helpful assistant. Answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
WAIT_S = 300
READY_S = 180.0


def why_not() -> str | None:
    """Why Compose cannot be run here, or None."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    engine = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False)
    if engine.returncode != 0 or not engine.stdout.strip():
        return "no Docker engine answers"
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return None if plugin.returncode == 0 else "docker has no compose plugin"


def ask(url: str, key: str) -> str:
    """Import and deploy the demo model, and its answer."""
    with Client(url, key) as client:
        version = import_model(client, str(demo_gguf()), "smollm2", progress=lambda _step, _done: None).version
        client.deploy(Deploy(reference=version.reference, name="smollm2"))
        for _ in wait_ready(client, "smollm2", READY_S):
            pass
        return "".join(delta.text for delta in client.chat("smollm2", QUESTION, temperature=0, max_tokens=24))


def free_port() -> int:
    """A free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """0: it answered, or there is no engine; 1: it did not."""
    if reason := why_not():
        print(f"docker compose was not run: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="llmos-compose-") as folder:
        tree = Path(folder) / "llmos"
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, tracked.decode().split("\0")):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        make(tree)
        port = free_port()
        environment = {**os.environ, "GATEWAY_PORT": str(port), "JAEGER_PORT": str(free_port())}
        compose = ["docker", "compose", "--project-name", f"llmos-test-{os.getpid()}"]
        try:
            subprocess.run([*compose, "config", "--quiet"], cwd=tree, env=environment, check=True)
            up = [*compose, "up", "--build", "--wait", "--wait-timeout", str(WAIT_S)]
            subprocess.run(up, cwd=tree, env=environment, check=True)
            answer = ask(f"http://127.0.0.1:{port}", (tree / "deploy/secrets/admin-key").read_text().strip())
        except (subprocess.CalledProcessError, LlmosError) as error:
            print(f"docker compose failed: {error}", file=sys.stderr)
            subprocess.run([*compose, "logs", "--tail", "20"], cwd=tree, env=environment, check=False)
            return 1
        finally:
            subprocess.run([*compose, "down", "--volumes", "--timeout", "60"], cwd=tree, env=environment, check=False)
    print(f"docker compose answered: {answer}")
    return 0 if "Paris" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
