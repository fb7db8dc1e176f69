"""Tool calls: the grammar that allows them, and the parser that takes them out of the text."""
