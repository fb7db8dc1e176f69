"""Responses that go on when the client leaves.

| module | content |
|---|---|
| `runs` | generates them |
| `leases` | says which gateway generates one, and whether it is to end |
| `event_log` | their events |
| `retrieval` | what became of a response, at any gateway |
"""
