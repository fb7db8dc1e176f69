import sys

from services.scheduler.app import app
from services.scheduler.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("scheduler", Settings, app))
