"""Runs encoders: texts in batches of similar length, one vector (or row of scores) for each.

    tokenizer ── batcher.admit ── plan ──> graph.run (the runner's thread) ── complete ──> the request's future

| file | what |
|---|---|
| `request` | a request: its texts as tokens; its result |
| `limits` | bounds of a batch and of the queue |
| `batcher` | pure: which rows are computed together |
| `runner` | the thread of `batching`, for an encoder |
| `graph` | the interface of a model; `runtime.onnx_encoder.OnnxEncoder` is one |
| `pooling` | pure: token vectors to one vector per text, normalising, shortening, scores |
| `token_classes` | pure: labels of tokens with their places in the text |
| `tokenizer` | texts to tokens |
| `special_words` | keeps a vocabulary from finding special tokens in a text |
"""
