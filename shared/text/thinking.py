"""How models mark their thoughts in an answer: as DeepSeek and Qwen do, and those that follow them."""

THINK, THINK_END = "<think>", "</think>"
