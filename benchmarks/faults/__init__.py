"""Faults of an ordinary week, made on purpose under load: `python -m benchmarks.faults`."""
