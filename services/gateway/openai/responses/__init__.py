"""`/v1/responses` and `/v1/conversations`: OpenAI's, as the Open Responses specification has them.

| module | content |
|---|---|
| `routes` | the operations, and what connects the parts |
| `api`, `conversations_api` | the handlers |
| `request` | bodies of requests, and what is refused in them |
| `preparation`, `context` | what a request asks for, with all that came before it |
| `generator`, `output`, `resource` | generates a response: frames become items and events |
| `events`, `fields` | how events and errors are written |
| `background` | responses that go on when the client leaves |
| `storage`, `ids` | what is stored |
"""
