"""Bodies of requests, parsed and checked.

| module | content |
|---|---|
| `body` | the bodies |
| `items` | what is said in a conversation |
| `tools`, `text_format` | what an answer may call, and the structure of its text |
| `parameters` | what has no effect, and what is refused by name |
"""
