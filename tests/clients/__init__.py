"""Other people's client libraries against a running LLMOS: `make clients`.

| module | content |
|---|---|
| `program` | a file of `programs`: what it needs, and what it asks |
| `environment` | an environment of its own for each, in a cache folder |
| `outcome` | what came of one |

A client is one file of `programs`. It begins with inline script metadata (PEP 723): the client and what else it
needs, each with its version, and `tool.llmos.asks`, which says what is asked. JavaScript has the same behind
`//`. The environment has `MODEL` and what clients read on their own: `OPENAI_BASE_URL`, `OPENAI_API_KEY`,
`ANTHROPIC_BASE_URL`, `ANTHROPIC_API_KEY`, `OLLAMA_HOST` and `OLLAMA_API_KEY`, and also `LLMOS_URL` and
`LLMOS_API_KEY`. A program prints what was answered; it fails by its exit code, or by printing nothing.
"""
