"""How much one request may have, in every dialect."""

MAX_MESSAGES = 2048
"""Of one conversation."""
MAX_PARTS = 2048
"""Parts of one message's content."""
MAX_TOOLS = 128
"""OpenAI's limit."""
