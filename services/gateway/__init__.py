"""Who asks: the OpenAI-compatible API, keys, routing and dispatch."""
