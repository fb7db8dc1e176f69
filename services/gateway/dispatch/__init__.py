"""Sends requests of every dialect to replicas, and returns their results."""
