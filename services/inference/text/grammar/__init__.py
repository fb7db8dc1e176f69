"""Grammars: a request's schema, regular expression or Lark source, compiled within limits to masks over tokens.

| file | what |
|---|---|
| `source`, `schema` | a request's grammar in the one language that is compiled; the JSON schema keywords in use |
| `closed_objects`, `patterns` | schemas that are not strict: no further properties; odd patterns left out |
| `process`, `worker` | tries a grammar in a worker process, within limits |
| `compiled`, `cache` | compiled grammars and a sequence's position in them; each grammar is compiled once |
| `limits`, `tokenizer`, `compile_error` | limits; the bytes of each token; the error for the client |
"""
