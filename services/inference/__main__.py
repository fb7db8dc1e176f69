import sys

from services.inference.app import app
from services.inference.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("inference", Settings, app))
