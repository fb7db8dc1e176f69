"""The five services. Each is started with `python -m services.<name>`; they talk over the bus only."""
