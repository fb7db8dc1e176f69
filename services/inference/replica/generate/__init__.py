"""A replica that generates: requests in, token frames out.

| file | what |
|---|---|
| `replica` | loads and connects the parts below |
| `model` | the version's files, ready to compute |
| `endpoints` | the subjects on which it listens |
| `handler` | checks a request, opens its stream, submits it to the engine |
| `prompts` | what an answer is made from: the prompt, or a source for the encoder |
| `speech_prompts` | the same of a model that writes down speech |
| `cache_scope` | pure: which requests share what was computed earlier |
| `sampling`, `bad_words` | a request's sampling parameters for the engine |
| `stream`, `frames` | pure: the state of open requests; a step's updates to frames |
| `logprobs` | log probabilities with the texts of their tokens |
| `serving` | connects engine, frames and bus; aborts overdue requests and those of lost gateways |
| `gateway_watch` | pure: which gateways are lost |
| `publisher` | frames to the bus, in order |
| `tokenization` | texts and conversations to token ids and back, computing nothing |
| `spans` | the trace of a finished request |
"""
