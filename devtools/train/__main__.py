"""`python -m devtools.train`."""

import sys

from devtools.train.command import main

sys.exit(main())
