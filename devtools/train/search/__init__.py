"""Searches keys of a recipe for the lowest loss on held-out rows: successive halving, by optuna.

`python -m devtools.train.search RECIPE.toml --search SEARCH.toml …`, with the other arguments of `devtools.train`.

| file | what |
|---|---|
| `command` | the command line |
| `search` | trials one after another: which go on, which stop early, and the best |
| `study` | what optuna knows: trials so far, the next one's values, whether a trial stops |
| `names` | the files of a search |
| `space` | the table `[search]`: which keys, and over which values |
"""
