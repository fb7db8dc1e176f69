import sys

from services.monitor.app import app
from services.monitor.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("monitor", Settings, app))
