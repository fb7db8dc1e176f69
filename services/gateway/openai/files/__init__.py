"""`/v1/files`: files that clients upload, for fine-tuning and other purposes.

| module | content |
|---|---|
| `api` | the routes |
| `form` | reads the form of an upload |
| `records` | the records in KV |
| `rows_check` | a quick look at training files while they arrive (pure) |
"""
