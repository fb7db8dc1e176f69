"""Decisions of the scheduler: pure functions of desired and observed state.

| file | decides |
|---|---|
| `desired` | the deployment that a request to deploy asks for |
| `sizing` | how many slots of which length it gets where the defaults don't fit |
| `fit` | which node has the capacity for a replica, and why none has |
| `placement` | which node runs which replica |
| `job_rules` | the life of a job: its states and what changes them |
| `job_placement` | which nodes a job runs on, and which jobs make room for replicas |
| `gang` | all the nodes of a job at once, or why there are none |
| `job_deployment` | how far the result of a job is deployed |
| `grace_period` | when a silent node counts as gone |
| `status` | the state of a deployment, from desired and observed state |
"""
