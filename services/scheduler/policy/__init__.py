"""Decisions of the scheduler: pure functions of desired and observed state.

| file | decides |
|---|---|
| `desired` | the deployment that a request to deploy asks for |
| `fit` | which node has the capacity for a replica, and why none has |
| `placement` | which node runs which replica |
| `grace_period` | when a silent node counts as gone |
| `status` | the state of a deployment, from desired and observed state |
"""
