"""The gateway of the integration tests, attacked."""

from tests.integration.gateway.conftest import gateway_settings, server, spans, stand

__all__ = ["gateway_settings", "server", "spans", "stand"]
