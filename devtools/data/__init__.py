"""Rows that models are trained on.

| file | what |
|---|---|
| `rows` | the canonical rows, and JSONL of them |
"""
