"""The engine: continuous batching of token sequences over a decoder. It sees token ids, never text.

| file | what |
|---|---|
| `sequence` | one generation: what was asked, where it stands, what a step tells about it |
| `slots` | which sequence has which place in the KV buffers |
| `limits` | how much the engine takes on |
| `admission` | whether a request fits, and whether the queue has room for it |
| `fairness` | whose turn it is: tenants by what they were served, prompts by age and length |
| `prefix_cache` | blocks of earlier sequences, and which of them go when there is no room |
| `kept` | which of the blocks that a step completes are kept |
| `prompts` | which chunks the next step computes, and which blocks it copies |
| `throughput` | how fast it was lately |
| `plan` | one step as plain data |
| `batcher` | pure policy: admit, plan, apply, cancel |
| `sampler` | logits to token ids, reproducible |
| `adjust`, `vocabulary` | what changes logits before that: masks, forbidden tokens, bias, penalties |
| `decoder` | what the engine asks of a model |
| `sample` | a decoder without a model |
| `load` | how busy the engine is |
| `engine` | the thread that loops plan -> run -> apply |
"""
