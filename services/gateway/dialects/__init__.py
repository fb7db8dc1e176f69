"""What API dialects have in common: bounds, values, tools, and thoughts in an answer's text."""
