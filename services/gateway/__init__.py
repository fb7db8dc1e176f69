"""The gateway: the HTTP APIs, keys, routing and dispatch."""
