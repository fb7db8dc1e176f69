"""`python -m devtools.train.search`."""

import sys

from devtools.train.search.command import main

if __name__ == "__main__":
    sys.exit(main())
