"""A real replica in altered surroundings; run as a program instead of `services.inference.replica`.

Environment beside a replica's own:
    ALTERED_CLOCK_AHEAD   seconds by which its time of day differs from this machine's
    ALTERED_STALL_FILE    while this file exists, the model's runs do not come back, as with a driver that hangs
    ALTERED_TOKEN_S       seconds that each run of the model takes longer
"""

import datetime as dt
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POLL_S = 0.02


def shift_clock(ahead: float) -> None:
    """Shift all times of day of this process; its monotonic clock is not touched."""
    now, now_ns, nanoseconds = time.time, time.time_ns, round(ahead * 1e9)
    time.time = lambda: now() + ahead
    time.time_ns = lambda: now_ns() + nanoseconds

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "Shifted":
            return cls.fromtimestamp(time.time(), tz)

    dt.datetime = Shifted  # type: ignore[misc]


def stalling(run: Callable[..., Any], file: Path, seconds: float) -> Callable[..., Any]:
    """`run`, which blocks while the file exists and takes some seconds longer."""

    def waits(*args: Any, **more: Any) -> Any:
        while file.exists():
            time.sleep(POLL_S)
        time.sleep(seconds)
        return run(*args, **more)

    return waits


def main() -> int:
    """Alter what the environment says, then be a replica; its exit code."""
    shift_clock(float(os.environ.get("ALTERED_CLOCK_AHEAD", "0")))

    from services.inference.replica.app import app  # noqa: PLC0415  # they must see the shifted clock
    from services.inference.replica.settings import Settings  # noqa: PLC0415
    from services.inference.runtime.onnx_decoder import OnnxDecoder  # noqa: PLC0415
    from services.inference.runtime.onnx_encoder import OnnxEncoder  # noqa: PLC0415
    from shared.service.run import main as service_main  # noqa: PLC0415

    if named := os.environ.get("ALTERED_STALL_FILE"):
        seconds = float(os.environ.get("ALTERED_TOKEN_S", "0"))
        for kind, names in ((OnnxDecoder, ("compute", "decode")), (OnnxEncoder, ("run",))):
            for name in names:
                setattr(kind, name, stalling(getattr(kind, name), Path(named), seconds))
    return service_main("replica", Settings, app)


if __name__ == "__main__":
    sys.exit(main())
