"""The person's side: command line, embedded launcher and Python client."""
