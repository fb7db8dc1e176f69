"""A replica that encodes: texts in, vectors or scores out."""
