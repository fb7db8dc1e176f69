"""Training as a job: a child process trains, the job's process brings its inputs and takes what it makes.

PyTorch is in the child process alone (`devtools.train`).

| file | what |
|---|---|
| `tool` | the job from its inputs to its result |
| `plan` | the recipe, and how the job runs it |
| `inputs` | base, teacher and rows; what does not fit together is refused |
| `rendezvous` | where the processes of several nodes meet |
| `process` | the child process: its command, its events, its end |
| `state` | the newest checkpoint in the store, for any node |
"""
