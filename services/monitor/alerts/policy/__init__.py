"""Pure: what is observed becomes findings, and findings become states of alerts.

| name | what |
|---|---|
| `options` | what each rule can be given |
| `rates` | requests, errors and slow first tokens of each deployment in sliding windows |
| `signals` | one look at the system |
| `rules` | the rules |
| `states` | inactive, pending, firing, resolved: one table |
"""
