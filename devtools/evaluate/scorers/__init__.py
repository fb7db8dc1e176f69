"""How items are scored.

| module | scorers |
|---|---|
| `scorer` | what a scorer is |
| `likelihood` | `choice` |
| `answers` | `exact_match`, `f1`, `contains`, `json_schema` |
| `overlap` | `rouge`, `bleu`, `overlap` |
| `perplexity` | `perplexity` |
| `counterfactual` | `counterfactual` |
| `stereotypes` | `stereoset`, `crows_pairs`, `bbq` |
| `refusals` | `refusal` |
| `judge` | `judge` |
| `latency` | `latency` |
| `catalogue` | all of them by name |
"""
