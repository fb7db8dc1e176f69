"""What exists: models, versions, aliases and their files."""
