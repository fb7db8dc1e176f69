"""What every service stands on: contracts, bus, storage, telemetry, errors, service life cycle."""
