"""A first lesson: a firm's codes for four kinds of tickets, which no pretrained model can know.

`tickets.jsonl` has 32 sentences with their codes, `unseen.jsonl` 24 sentences in other words, `recipe.toml` the run.

| file | what |
|---|---|
| `proof` | exact answers to the unseen sentences, before and after |
"""
