"""The admin API below `/llmos/v1`."""
