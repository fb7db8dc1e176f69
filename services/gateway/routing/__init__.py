"""Chooses a replica from what the gateway knows."""
