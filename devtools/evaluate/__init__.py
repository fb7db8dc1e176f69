"""Evaluation: suites are put to what is served, and two versions are compared on the same items.

| module | content |
|---|---|
| `options` | what an evaluation is told |
| `gateway` | the gateway over HTTP: answers, and log probabilities of prompts |
| `subject` | the version that is evaluated, and its deployment |
| `suites` | datasets of items, and those that are chosen |
| `forms`, `write_suite` | files of public sets, as items |
| `scorers` | how an item is put to a model, and what its answer is worth |
| `rouge` | ROUGE-1, ROUGE-2, ROUGE-L |
| `typos` | typing errors in a prompt |
| `runner` | asks all items, many at a time |
| `finished` | the scores so far, in a file |
| `evaluation` | from options to items |
| `student`, `statistics`, `score_interval` | means, differences, intervals |
| `bootstrap` | the same for metrics of a corpus |
| `metric` | what is measured |
| `scores` | from items to figures |
| `report` | the manifest and the items |
| `judge_notes` | what a report says of its judge |
| `gate` | pass, fail or undecided |
| `policy` | the rules of a gate, by suite; `gate.toml` |
| `gated` | a gate over reports |
"""
