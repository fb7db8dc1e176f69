"""Reads Hugging Face directories: weights, architecture and tokenizer."""
