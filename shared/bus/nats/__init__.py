"""The bus over NATS: core messages, JetStream buckets and streams."""
