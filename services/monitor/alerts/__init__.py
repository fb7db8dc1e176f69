"""Alerts: rules over what the monitor sees, and who is told.

| name | what |
|---|---|
| `policy` | pure: rates, rules, the states of an alert |
| `rule_file` | `alerts.toml` |
| `observation` | what the rules look at: records, load reports, heartbeats, spans, the chains of events |
| `watch` | the loop: look, evaluate, tell |
| `alertmanager` | tells an Alertmanager |

Why here: [ADR 53](docs/adr/0053-the-monitor-evaluates-alerts.md).
"""
