"""Tool calls: the grammar that allows them, and the parser that finds them in the text."""
