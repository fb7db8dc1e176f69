# /// script
# dependencies = ["anthropic==2.14.0"]
# tool.llmos.asks = "messages.create: the README's first example"
# ///
import os

from anthropic import Anthropic

client = Anthropic(
    api_key=os.environ.get("ANTHROPIC_API_KEY"),  # This is the default and can be omitted
)

message = client.messages.create(
    max_tokens=1024,
    messages=[
        {
            "role": "user",
            "content": "Hello, Claude",
        }
    ],
    model=os.environ["MODEL"],
)
print(message.content)
