"""What means against bias do on a corpus whose bias is known: `python -m benchmarks.bias`."""
