"""Requests of one answer each, computed in batches by one thread.

| file | what |
|---|---|
| `batch` | what a batcher decides, as the runner sees it |
| `runner` | the thread |
"""
