# /// script
# dependencies = ["openai==3.57.0"]
# tool.llmos.asks = "responses.create: the README's first example"
# ///
import os

from openai import OpenAI

client = OpenAI(
    # This is the default and can be omitted
    api_key=os.environ.get("OPENAI_API_KEY"),
)

response = client.responses.create(
    model=os.environ["MODEL"],
    instructions="You are a coding assistant that talks like a pirate.",
    input="How do I check if a Python object is an instance of a class?",
)

print(response.output_text)
