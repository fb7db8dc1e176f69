"""Nodes, matrices and weight files: what graphs are built from, and their other forms."""
