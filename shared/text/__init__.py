"""From messages to token ids: chat templates, tokenizers and prompts.

Serving and training render with the same code, so a model is trained on the prompts that it will be served.

| file | what |
|---|---|
| `tokenizer` | text to token ids, and the bytes of one token |
| `template` | messages to the prompt that the model was trained on; pure |
| `template_options`, `template_traits` | what a client may say about the rendering; how a template takes calls |
| `template_process`, `template_worker`, `template_messages` | renders in a worker process, within limits |
| `tool_form` | how a model writes tool calls, by its chat template |
| `tool_messages` | tools and tool calls as messages for a template |
| `call_arguments`, `single_calls` | calls in the history, as a template can show them |
| `client_json` | JSON that a client sent as text |
| `context_length` | whether a prompt and its answer fit |
| `user_text`, `literal` | control tokens that a client wrote are text |
| `special_tokens` | texts of special tokens, by their names in templates |
| `prompt` | a request's prompt as token ids |
| `thinking` | how models mark their thoughts in an answer |
"""
