"""Runs encoders: texts in batches of like length, one vector (or row of scores) for each.

    tokens ── batcher.admit ── plan ──> graph.run (the runner's thread) ── complete ──> the request's future

| file | what |
|---|---|
| `request` | a request: its texts as tokens; what it ends with |
| `limits` | bounds of a batch and of the queue |
| `shares` | pure: whose turn it is |
| `batcher` | pure: which rows are computed together |
| `runner` | the thread that loops plan -> run -> complete |
| `graph` | what the runner asks of a model; `runtime.encoder.OnnxEncoder` is one |
| `pooling` | pure: token vectors to one vector per text, normalising, shortening, scores |
| `tokens` | texts to tokens: nothing is cut unless asked for |
"""
