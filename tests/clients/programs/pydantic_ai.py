# /// script
# dependencies = ["pydantic-ai==2.62.0"]
# tool.llmos.asks = "an agent with an output type and a tool: the README's example of data extraction"
# ///
import os
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_ai import Agent, RunContext


class Sentiment(BaseModel):
    label: Literal["positive", "negative", "neutral"]
    score: float = Field(ge=-1, le=1)


agent = Agent(f"openai:{os.environ['MODEL']}", output_type=Sentiment)


@agent.tool
def recent_reviews(ctx: RunContext, product: str) -> list[str]:
    """Fetch recent review snippets for a product."""
    return ["The new release fixed everything I complained about!"]


result = agent.run_sync("How are people feeling about the Extract app?")
print(result.output)
