"""From messages to token ids and back: the engine sees token ids, everything else here sees text.

| file | what |
|---|---|
| `tokenizer` | text to token ids, and the bytes of one token |
| `template` | messages to the prompt that the model was trained on (runs in the worker process) |
| `template_messages` | what the two sides of the worker's pipe say |
| `template_worker` | the process that renders: limited in time and memory, killed when a template hangs |
| `template_process` | the replica's side of it |
| `detokenizer` | token ids to text as they come, never half a character |
| `stop` | stop strings across token borders |
| `answer` | the two joined for one request |
"""
