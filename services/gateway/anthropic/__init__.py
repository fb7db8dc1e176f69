"""Anthropic's Messages API: parses requests and writes responses in its forms. `routes` has all of it."""
