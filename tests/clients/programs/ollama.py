# /// script
# dependencies = ["ollama==0.6.3"]
# tool.llmos.asks = "chat: the README's first example"
# ///
import os

from ollama import ChatResponse, chat

response: ChatResponse = chat(
    model=os.environ["MODEL"],
    messages=[
        {
            "role": "user",
            "content": "Why is the sky blue?",
        },
    ],
)
print(response["message"]["content"])
# or access fields directly from the response object
print(response.message.content)
