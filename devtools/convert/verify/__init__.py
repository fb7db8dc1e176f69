"""Compares a built graph with a reference in NumPy."""
