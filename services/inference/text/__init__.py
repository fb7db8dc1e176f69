"""An answer's text and structure: the engine computes token ids, and clients read text and tool calls.

| file | what |
|---|---|
| `detokenizer` | token ids to text, token by token, in whole characters |
| `stop` | stop strings across token borders |
| `answer_text` | the two joined for one request |
| `token_texts` | texts of single tokens, for log probabilities |
| `structured_output` | a request's structured output: the constraint on its tokens, the parser of its tool calls |
| `grammar/` | schemas, regular expressions and Lark sources, compiled within limits to masks over tokens |
| `tools/` | tool calls: the grammar that allows them, the parser that finds them in the text |
"""
