"""The message bus: one port, an adapter on NATS and one in memory, contracts on top."""
