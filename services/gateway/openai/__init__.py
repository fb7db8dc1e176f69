"""OpenAI's API: requests parsed, answers in its shapes."""
