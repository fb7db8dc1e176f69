"""Quantises float weights to 4 or 8 bits."""
