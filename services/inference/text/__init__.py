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
| `structured` | what a request demands of its answer: a constraint on its tokens, a parser of its calls |
| `grammar_source`, `grammar_schema` | a request's grammar in one language; schema keywords that are none |
| `grammar_worker`, `grammar_process` | the process that tries a grammar within limits, and the replica's side of it |
| `grammar`, `grammar_cache` | compiled, each once; where one sequence stands in it |
| `grammar_limits`, `grammar_tokens`, `grammar_refusal` | limits; the vocabulary's bytes; what to tell the sender |
| `tools_form` | how a model writes calls, by its chat template |
| `tools_prompt`, `tools_grammar`, `tools_parser` | tools into prompts, into grammars, and calls out of text |
| `json_value` | where a JSON value ends |
"""
