"""Grammars: a request's schema, regular expression or Lark source, compiled within limits to masks over tokens.

| file | what |
|---|---|
| `source`, `schema` | a request's grammar in the one language that is compiled; JSON schema keywords without effect |
| `worker`, `process` | the process that tries a grammar within limits, and the replica's side |
| `compiled`, `cache` | compiled grammars, each compiled once; where one sequence stands in it |
| `limits`, `tokens`, `refusal` | limits; the bytes of each token; the message for the sender |
"""
