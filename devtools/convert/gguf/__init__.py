"""Reads GGUF files: weights, architecture and tokenizer."""
