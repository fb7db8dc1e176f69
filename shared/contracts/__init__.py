"""Every message that crosses a process border, with its subject beside it; one file per receiver.

| file | what |
|---|---|
| `base` | `Contract` (frozen pydantic model) and `Endpoint` (subject + request + response) |
| `manifest` | the JSON that describes a version, and references to versions |
| `smoke_test` | what a version gave for a few tokens at import |
| `dataset` | the JSON that describes a version of a dataset |
| `report` | the JSON that describes what an evaluation measured |
| `origin` | the request that a record comes from |
| `registry` | catalogues of models, datasets and reports: names, versions, aliases |
| `scheduler` | deployments, nodes, assignments |
| `job` | jobs, their processes and their events |
| `fine_tuning` | what OpenAI's fine-tuning API was asked for |
| `file` | files that clients upload |
| `response` | responses and conversations that the gateway stores |
| `resources` | what a replica or a job is granted |
| `serving` | what a deployer can set for each replica |
| `scrub` | checks of stored bytes against their digests |
| `events` | changes of control state |
| `replica` | generate, cancel, drain |
| `sampling` | how a replica chooses tokens |
| `load` | load reports, and the metrics that gateways make of them |
| `embedding` | embed, classify: what an encoder's replica takes |
| `tensor` | infer, describe: what the replica of a graph with named tensors takes |
| `tokenization` | tokenize, detokenize, tokenizer_info: what every replica takes |
| `gateway` | token frames, API keys |
| `monitor` | traces, health, telemetry subjects |
| `state` | control state as a document, its format, and which system a bus or a store belongs to |
"""
