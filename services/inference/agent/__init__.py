"""The node agent: runs on a node what the scheduler assigned to it.

| file | what |
|---|---|
| `reconcile` | pure: what is assigned + what runs -> what to start and stop |
| `replica` | one supervised replica process: its command, its end, its drain |
| `gpus` | the node's GPUs, asked of the driver |
| `claim` | one agent per node id |
| `agent` | the loop around them, and the node's lease |
"""
