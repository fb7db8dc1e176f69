"""What a job's process does: fetch the inputs, run the tool, save checkpoints, hand over what was made.

| file | what |
|---|---|
| `run` | the process: `python -P -m devtools.jobs.run FOLDER`, started by the node agent |
| `tool` | what the tool of a kind gets |
| `tools` | the tool of each kind, and what is missing for it here |
| `settings` | where the store is, and the gateway |
| `protocol` | messages to the node agent, as lines on standard output |
| `workspace` | the folder of a job |
| `files` | versions and checkpoints between the store and the folder |
| `uploads` | files that a client uploaded become a dataset |
| `train/` | training |
| `search/` | many trainings, of which the best becomes the result |
| `command` | a program of the user's, with base and data as folders |
| `prepare` | rows through steps to a version of a dataset |
| `evaluate` | suites put to what is served |
| `adapter` | an adapter that a program left, merged into its base |
| `results` | what a tool left in a folder becomes a version |
"""
