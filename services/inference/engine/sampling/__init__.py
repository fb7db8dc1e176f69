"""The choice of a token from the logits of one row, reproducible from seed and position.

| file | holds |
|---|---|
| `params` | sampling parameters, and the score of a token |
| `state` | parameters, logits processors and grammar of one request |
| `sampler` | one choice |
| `logits_processors` | masks, allowed tokens, bad words, bias and penalties |
| `allowed_tokens` | what allows and forbids tokens |
| `repeated_ngrams`, `timestamps` | what may not come twice; marks of time in speech |
| `filtering` | top-k and top-p |
| `logprobs` | log probabilities |
| `constraint` | the interface of a grammar |
"""
