"""A search as a job: a child process trains trial after trial, and the best becomes the job's result.

| file | what |
|---|---|
| `tool` | the job from its inputs to its result |
| `plan` | the recipe of a training with the table `[search]` |
| `state` | trials and the best model in the store, for any node |
"""
