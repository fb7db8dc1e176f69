"""What each dialect of the API costs beside a chat, in front of a replica that computes nothing.

python -m benchmarks.dialects [--requests N] [--tokens N]
"""
