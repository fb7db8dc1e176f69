"""What a job's process does: fetch the inputs, run the tool, save checkpoints, hand over what was made.

| file | what |
|---|---|
| `run` | the process: `python -P -m devtools.jobs.run FOLDER`, started by the node agent |
| `settings` | where the store is, and the gateway |
| `protocol` | messages to the node agent, as lines on standard output |
| `workspace` | the folder of a job |
| `files` | versions and checkpoints between the store and the folder |
| `command` | a program of the user's, with base and data as folders |
| `tool` | what the tool of a kind gets |
| `evaluate` | suites put to what is served |
| `results` | what a tool left in a folder becomes a version |
"""
