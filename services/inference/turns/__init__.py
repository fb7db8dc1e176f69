"""Turns of tenants at what a replica does before it computes, and at an encoder.

| file | what |
|---|---|
| `fair_queue` | pure: whose turn it is |
| `turns` | one piece of work at a time, in turns between tenants |
"""

from services.inference.turns.turns import Turns

__all__ = ["Turns"]
