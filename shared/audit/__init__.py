"""The audit trail: every change of control state is an event, stored before the change is made.

| file | what |
|---|---|
| `caller` | for whom a task works; crosses the bus with its requests |
| `person` | who runs a command that needs no API key |
| `digest` | the digest that chains events |
| `trail` | writes the events of a process to the chain of its service |
| `records` | changes of records: the event first, then the compare-and-set |
| `reading` | the newest events, and those that follow |
| `verify` | pure: whether a chain has gaps or altered events |

Why: [ADR 52](docs/adr/0052-a-change-is-recorded-before-it-is-made.md).
"""
