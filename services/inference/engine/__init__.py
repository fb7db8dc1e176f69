"""The engine: continuous batching of token sequences over a decoder. It sees token ids, never text.

| file | holds |
|---|---|
| `engine` | the thread that loops plan -> run -> apply |
| `batcher` | the state of all sequences: admit, plan, apply, cancel |
| `plan` | one step as plain data, and its results |
| `executor` | runs a plan on the decoder, and chooses the tokens |
| `request` | a request, and its update after a step |
| `sequence` | the state of one generation inside the batcher |
| `slots` | which sequence has which slot of the KV buffers |
| `prefix_cache` | blocks that other sequences may copy, and their eviction |
| `ngram_proposer` | proposes draft tokens |
| `stall` | whether steps have ceased to come |
| `exponential_mean` | a mean in which newer measurements weigh more |
| `limits` | bounds of a step, of the queue and of the cache |
| `batch_sizes` | how many sequences steps advance |
| `decoder` | the interface of a model |
| `scripted_decoder` | a decoder without a model |

| folder | holds |
|---|---|
| `policy/` | the decisions of the batcher |
| `sampling/` | the choice of a token from logits |

All but `engine`, `executor` and `scripted_decoder` are pure: no clock, no randomness, no I/O.
"""
