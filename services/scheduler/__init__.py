"""Decides where replicas and jobs run. One scheduler leads; others stand by.

| file | holds |
|---|---|
| `policy/` | the decisions, pure |
| `reconcile` | the loop: writes assignments at every change, and every tick |
| `leadership` | the lease of the leader |
| `job_deployer` | deploys what jobs made |
| `job_loop` | writes what happened to jobs |
| `jobs` | the endpoints of jobs |
| `resolve` | asks the registry what a reference means |
| `service` | answers `shared.contracts.scheduler` while this process leads |
| `app`, `settings` | connect the parts; read the environment |
"""
