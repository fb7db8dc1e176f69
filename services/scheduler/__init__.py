"""Decides where replicas run. One scheduler leads; others stand by.

| file | what |
|---|---|
| `placement` | pure: what is wanted + what is up + what stands -> assignments, and why something has no place |
| `room` | pure: what fits on a node, and the words for what does not |
| `deploying`, `status` | pure: a request to the record of what is wanted; wanted and observed side by side |
| `patience` | pure: when a silent node may be taken for gone |
| `records` | local copies of buckets, written by compare-and-set |
| `reconcile` | the loop around placement |
| `leadership` | the lease of the one that leads |
| `service` | the endpoints, `events` what is told |
"""
