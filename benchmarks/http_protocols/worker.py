"""The gateway that is measured: `python -m benchmarks.http_protocols.worker PROTOCOL`."""

import sys
from typing import Any

import uvicorn

from services.gateway.app import app
from services.gateway.settings import Settings
from shared.service.run import main


def run_gateway(protocol: str) -> int:
    """The gateway until SIGTERM, with a protocol of uvicorn's unless `protocol` is "ours"."""
    if protocol != "ours":
        uvicorns = uvicorn.Config

        def config(*arguments: Any, **options: Any) -> uvicorn.Config:
            return uvicorns(*arguments, **{**options, "http": protocol})

        uvicorn.Config = config  # type: ignore[assignment,misc]
    return main("gateway", Settings, app)


if __name__ == "__main__":
    sys.exit(run_gateway(sys.argv[1]))
