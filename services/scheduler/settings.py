"""What the scheduler reads from its environment: only what all services read."""

from shared.service.settings import ServiceSettings


class Settings(ServiceSettings):
    """The scheduler's settings."""
