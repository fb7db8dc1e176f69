"""Trains what LLMOS serves, in PyTorch: `python -m devtools.train RECIPE --base MODEL --data ROWS --output FOLDER`.

Outside, nothing is imported but what needs no torch: `recipe`, `memory`, `result.hf_directory`, `search.space`,
`search.names`.

| file | what |
|---|---|
| `command` | the command line: arguments, signals, exit codes, events as JSON lines |
| `run` | one training from start to end: connects all below |
| `assemble` | the decoder of a run, with its adapter, checked |
| `identity` | what makes a run the same run; where a result came from |
| `memory` | how much memory a run takes, as an estimate |
| `options` | where a run reads and writes, and what changes speed and memory only |
| `inputs` | base, rows and teacher of a run, read and checked |
| `loop` | the loop: steps, validation, checkpoints |
| `stepper` | one step: gradients of all micro-batches, clipping, update |
| `checkpoint` | states of a run on disk, whole or absent |
| `distributed` | several processes as one: sums of gradients, or sharded weights (FSDP2) |
| `launch` | `torchrun` with a rendezvous of one address |
| `progress` | what a run reports |
| `batches` | the order of rows; micro-batches as tensors |
| `lines` | how items lie in micro-batches: padded, packed, with a common beginning once |
| `examples` | rows to token ids, by the code that serves |
| `answer_text` | an assistant's message as the text that the model writes |
| `base` | the model that a run starts from |
| `tensors` | writes safetensors |
| `search/` | keys of a recipe, searched by successive halving |
| `recipe/` | what a run does, as TOML |
| `model/` | the decoder in PyTorch, adapters, models from scratch |
| `objective/` | what is minimised |
| `lesson/` | tickets: rows, recipe and a proof that a model learns |
| `result/` | what a run leaves: an adapter or a model |
"""
