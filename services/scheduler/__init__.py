"""Decides where replicas run. One scheduler leads; others stand by.

| file | what |
|---|---|
| `placement` | pure: desired state, nodes and assignments -> the next assignments, and why a replica has no node |
| `fit` | pure: what fits on a node, and the words for what does not |
| `desired`, `status` | pure: a request to the record of the desired state; desired and observed state side by side |
| `grace_period` | pure: when a silent node counts as gone |
| `reconcile` | local copies of the state, and the loop around placement |
| `leadership` | the lease of the scheduler that leads |
| `service` | the endpoints, `events` what is published |
"""
