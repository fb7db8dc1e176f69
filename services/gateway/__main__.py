"""`python -m services.gateway`: run the gateway until SIGTERM."""

import sys

from services.gateway.app import app
from services.gateway.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("gateway", Settings, app))
