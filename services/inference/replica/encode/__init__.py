"""A replica that encodes: texts in, vectors or scores out.

| file | what |
|---|---|
| `replica` | loads and connects the parts below |
| `model` | the version's files, ready to compute |
| `endpoints` | the subjects on which it listens |
| `handler` | texts to tokens, tokens to the runner, vectors to the response |
| `tokenization` | texts to token ids and back, computing nothing |
| `spans` | the trace of a finished request |
"""
