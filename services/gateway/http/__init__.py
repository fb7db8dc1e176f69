"""The gateway's HTTP side, the only place that knows the web framework: routes, request models, errors, streams."""
