"""Rows that models are trained on and evaluated with: read, checked, prepared, written as versions of datasets.

| file | what |
|---|---|
| `rows` | the canonical rows, and JSONL of them |
| `texts` | the texts of a row |
| `files` | files as streams of objects: JSON Lines, JSON, CSV, Parquet, text |
| `chat`, `evaluation`, `forms` | the forms in which people have rows |
| `reader` | rows of files, each with its place |
| `defects`, `check` | what can be wrong with a row; findings |
| `clean`, `repeat`, `private` | characters, repetition, personal data |
| `write`, `version` | shards, and the manifest of a version |
| `libraries` | libraries of the extra `data` |
"""
