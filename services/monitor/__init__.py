"""What happened: telemetry, traces and the health of every service."""
