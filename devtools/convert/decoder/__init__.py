"""Builds the graph of a decoder from its architecture and weights."""
