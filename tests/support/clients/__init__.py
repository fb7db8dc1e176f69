"""Programs that run in environments of their own, with the packages of others."""
