"""What the monitor reads from its environment."""

from pathlib import Path

from pydantic import Field

from shared.service.settings import ServiceSettings


class Settings(ServiceSettings):
    """The monitor's settings."""

    folder: Path | None = Field(default=None, validation_alias="LLMOS_MONITOR_DIR")
    """Folder where traces are kept. Default: none; traces are kept in memory and are gone at exit."""
    max_spans: int = Field(default=250_000, ge=1, validation_alias="LLMOS_MONITOR_MAX_SPANS")
    """Spans that are kept; the oldest traces go first."""
    max_bytes: int = Field(default=128 * 1024 * 1024, ge=1, validation_alias="LLMOS_MONITOR_MAX_BYTES")
    """Bytes of encoded spans that are kept; the file is about a third larger."""
    max_age: float = Field(default=24 * 3600.0, gt=0, validation_alias="LLMOS_MONITOR_MAX_AGE")
    """Seconds that a trace is kept after its last span came."""
    alerts_file: Path | None = Field(default=None, validation_alias="LLMOS_MONITOR_ALERTS")
    """The rules of alerts, and who is told (`alerts.toml`, docs/operations.md). An embedded system takes the one in
    its home. Without one all rules have their defaults, and alerts go to the log and the events."""
    otlp_endpoint: str | None = Field(
        default=None, pattern=r"^(https?://)?[^/\s]+:\d+/?$", validation_alias="LLMOS_OTLP_ENDPOINT"
    )
    """OTLP/gRPC endpoint, such as `http://jaeger:4317`, to which all spans are forwarded."""
