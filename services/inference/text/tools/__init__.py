"""Tool calls: the grammar that allows them, and the parser that finds them in the text.

| file | what |
|---|---|
| `grammar` | the grammar of an answer that may, or must, call tools |
| `parser`, `json_value` | pure: an answer's text, piece by piece, into text and tool calls; where a JSON value ends |
| `call_id` | ids of tool calls |
"""
