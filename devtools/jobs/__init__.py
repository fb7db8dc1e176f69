"""What a job's process does: fetch the inputs, run the tool, save checkpoints, hand over what was made.

| file | what |
|---|---|
| `run` | the process: `python -P -m devtools.jobs.run FOLDER`, started by the node agent |
| `tool` | what the tool of a kind gets |
| `settings` | where the store is |
| `protocol` | messages to the node agent, as lines on standard output |
| `workspace` | the folder of a job |
| `files` | versions and checkpoints between the store and the folder |
| `train/` | training |
| `search/` | many trainings, of which the best becomes the result |
| `command` | a program of the user's, with base and data as folders |
| `prepare` | rows through steps to a version of a dataset |
| `results` | what a tool left in a folder becomes a version |
"""
