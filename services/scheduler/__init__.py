"""Where it runs: nodes, placement and assignments."""
