"""The stream that carries telemetry from every process to the monitor."""

from shared.bus.port import Bus, EventStream
from shared.contracts.monitor import TELEMETRY_STREAM

TELEMETRY_SUBJECTS = "llmos.v1.telemetry.>"
MAX_BYTES = 256 * 1024 * 1024
MAX_AGE_S = 24 * 3600.0


def telemetry_stream(bus: Bus) -> EventStream:
    """The stream, made on first use; oldest discarded first."""
    return bus.stream(TELEMETRY_STREAM, [TELEMETRY_SUBJECTS], max_bytes=MAX_BYTES, max_age=MAX_AGE_S)
