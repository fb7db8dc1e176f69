"""The decisions of the batcher. Pure.

| file | decides |
|---|---|
| `admission` | whether a request fits a slot and the queue |
| `fairness` | whose prompt comes next |
| `preemption` | which sequence gives its slot up |
| `prefill` | which chunks are computed, and which blocks are copied |
| `decode` | which rows are computed |
| `draft_lengths` | how many proposed tokens each row computes ahead |
| `block_reservation` | which blocks go into the prefix cache |
| `throughput` | nothing; it measures the speed that others decide by |
"""
