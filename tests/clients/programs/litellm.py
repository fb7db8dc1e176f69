# /// script
# dependencies = ["litellm==1.110.2"]
# tool.llmos.asks = "completion with openai/ and anthropic/: the README's first example"
# ///
import os

from litellm import completion

# OpenAI
response = completion(model=f"openai/{os.environ['MODEL']}", messages=[{"role": "user", "content": "Hello!"}])
print(response.choices[0].message.content)

# Anthropic
response = completion(model=f"anthropic/{os.environ['MODEL']}", messages=[{"role": "user", "content": "Hello!"}])
print(response.choices[0].message.content)
