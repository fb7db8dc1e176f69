# /// script
# dependencies = ["llama-index==0.14.25"]
# tool.llmos.asks = "OpenAI().complete and chat: the first examples of llama-index-llms-openai"
# ///
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI

print(OpenAI(model=os.environ["MODEL"]).complete("Paul Graham is "))
messages = [
    ChatMessage(role="system", content="You are a pirate with a colorful personality."),
    ChatMessage(role="user", content="What is your name?"),
]
print(OpenAI(model=os.environ["MODEL"]).chat(messages))
