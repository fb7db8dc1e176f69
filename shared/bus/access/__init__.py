"""What exists on the bus, who may use it, and the server's configuration made of both.

| file | what |
|---|---|
| `stored` | every bucket and stream, with who writes and who reads it |
| `spoken` | every subject that is not stored, with who publishes and who receives |
| `roles` | the users of the bus |
| `accounts` | pure: the tables -> the accounts of nats-server |
| `provision` | makes the buckets, streams and consumers, as the owner |

Why accounts: [ADR 29](docs/adr/0029-an-account-for-each-service.md).
"""
