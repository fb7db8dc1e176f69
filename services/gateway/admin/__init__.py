"""The admin API below `/llmos/v1`. `routes` has all of it."""
