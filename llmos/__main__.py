"""`python -m llmos` is `llmos`."""

from llmos.cli import main

main()
