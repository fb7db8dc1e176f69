# /// script
# dependencies = ["openai-agents==0.24.0"]
# tool.llmos.asks = "Runner.run_sync: the README's first example"
# ///
import os

from agents import Agent, Runner, set_tracing_disabled

set_tracing_disabled(disabled=True)  # it sends traces to OpenAI, with the key
agent = Agent(name="Assistant", instructions="You are a helpful assistant", model=os.environ["MODEL"])

result = Runner.run_sync(agent, "Write a haiku about recursion in programming.")
print(result.final_output)
