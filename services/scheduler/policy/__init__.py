"""Decisions of the scheduler: pure functions of desired and observed state."""
