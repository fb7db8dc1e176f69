"""A gateway on a bus of its own, in front of a replica that computes nothing: each is a process.

| module | content |
|---|---|
| `processes` | starts them |
| `replica` | the replica: its answer to a request is the words of the last message or the prompt, over and over |
"""
