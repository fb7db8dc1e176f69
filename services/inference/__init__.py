"""How it runs: the node agent, the replica process and its engine."""
