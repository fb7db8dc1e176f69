"""Attacks on a fresh system: what each is answered, and what another tenant feels.

| file | what |
|---|---|
| `__main__` | starts the system, runs the attacks, prints a row each |
| `target` | the system under attack: addresses, keys, processes |
| `watch` | what is measured meanwhile: the gateway's loop, memory, a quiet tenant |
| `before_a_key` | what a stranger can send |
| `with_a_key` | what a tenant can ask for |
| `on_the_bus` | what the password of a service is good for |
| `in_a_file` | what a model's files can do, and a disk that loses a byte |
"""
