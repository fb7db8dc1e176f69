"""LLMOS as a whole, through HTTP, beside its peers on the same file and the same prompts; one JSON line per point."""
