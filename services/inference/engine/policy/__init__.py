"""Policies of the engine: admission, fairness, prefill, draft lengths, block reservation. Pure."""
