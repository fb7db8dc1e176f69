"""A replica that generates: requests in, token frames out."""
