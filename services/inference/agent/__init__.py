"""The node agent: runs on a node what the scheduler assigned to it.

| file | what |
|---|---|
| `agent` | the loop: watches the assignment, starts and stops replicas, keeps the node's lease |
| `reconcile` | pure: desired and existing replicas -> what to start and stop |
| `replica_process` | one supervised replica process: its environment, its end, its drain |
| `fetches` | the files of versions on their way to the node |
| `version_files` | manifest and blobs of a version from the store into a folder |
| `cached_blobs` | the node's copies of blobs, to be checked and scrubbed |
| `damage` | finds files whose bytes have changed, and says so |
| `jobs` | the jobs of the node: starts, stops and reports them, registers what they made |
| `job_needs` | what the node lacks for jobs, by what the job command says |
| `job_process` | one process of a job, with what it says |
| `hang` | pure: when a replica's process hangs |
| `gpus` | the node's GPUs, from the driver |
| `claim` | one agent per node id |
| `machine` | the nodes of one machine: their ids, and that together they offer no more than it has |
"""
