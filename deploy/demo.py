"""Import SmolLM2 and deploy it, unless that was done; then wait to be stopped. Runs in a container with LLMOS_DEMO=1.

`python demo.py KEY_FILE`, with LLMOS_URL. The file LLMOS_HEALTH_FILE is there once SmolLM2 answers: the container's
health check looks for it.
"""

import os
import signal
import sys
from pathlib import Path

from llmos.cli.demo import deploy_once, import_once
from llmos.client import Client
from shared.errors import LlmosError


def main() -> None:
    """Exits with 1 and a line when it can't be done; the container starts it again."""
    try:
        with Client(os.environ["LLMOS_URL"], Path(sys.argv[1]).read_text(encoding="utf-8").strip()) as client:
            deploy_once(client, import_once(client))
    except LlmosError as error:
        sys.exit(f"SmolLM2 was not deployed: {error.message}")
    Path(os.environ["LLMOS_HEALTH_FILE"]).touch()
    signal.pause()


if __name__ == "__main__":
    main()
