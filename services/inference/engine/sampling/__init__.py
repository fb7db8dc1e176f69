"""Sampling: logits of one row to a token, reproducible from seed and position."""
