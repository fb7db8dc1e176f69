"""The gateway with its own HTTP protocol, and with uvicorn's on httptools and on h11.

python -m benchmarks.http_protocols [--rounds N] [--tokens N]
"""
