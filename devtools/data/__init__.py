"""Rows that models are trained on and evaluated with: read, checked, prepared, written as versions of datasets.

| file | what |
|---|---|
| `rows` | the canonical rows, and JSONL of them |
| `texts` | the texts of a row |
| `files` | files as streams of objects: JSON Lines, JSON, CSV, Parquet, text |
| `chat`, `evaluation`, `forms` | the forms in which people have rows |
| `reader` | rows of files, each with its place |
| `defects`, `check` | what can be wrong with a row; findings |
| `check_files` | all findings about files, and facts about their rows |
| `private` | personal data in a text |
| `steps`, `split` | what a step is; which split a row goes to |
| `clean`, `length`, `language`, `repeat`, `masking`, `overlap` | steps that look at one row |
| `near`, `balance` | steps that look at all rows; counterfactual copies |
| `recipe`, `pipeline` | what a preparation does, as TOML; how it is done, stage by stage |
| `stage`, `block_source`, `row_file`, `columns` | work on a block of rows; what lies between stages |
| `executors`, `on_ray` | where stages run |
| `write`, `version` | shards, and the manifest of a version |
| `look`, `query`, `export` | rows of a version: samples, differences, SQL, other forms |
| `libraries`, `words` | libraries of the extra `data`; which word was meant |
"""

import shared.privacy  # noqa: F401  # before Ray
