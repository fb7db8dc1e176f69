"""What tenants have stored ([ADR 44](docs/adr/0044-responses-are-stored-whole-on-the-bus.md)).

| module | content |
|---|---|
| `store` | records with contents of any size, in one bucket |
| `allowances` | what each tenant may store, and what gives way |
| `conversations` | conversations, which grow |
| `lookup` | finds what belongs to a tenant |
"""
