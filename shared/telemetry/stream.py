"""The stream that carries telemetry from every process to the monitor."""

from shared.bus.port import Bus, EventStream
from shared.contracts.monitor import TELEMETRY_MAX_AGE_S, TELEMETRY_MAX_BYTES, TELEMETRY_STREAM, TELEMETRY_SUBJECTS


def telemetry_stream(bus: Bus) -> EventStream:
    """The stream; oldest discarded first."""
    return bus.stream(
        TELEMETRY_STREAM, [TELEMETRY_SUBJECTS], max_bytes=TELEMETRY_MAX_BYTES, max_age=TELEMETRY_MAX_AGE_S
    )
