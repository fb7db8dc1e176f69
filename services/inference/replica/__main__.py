import sys

from services.inference.replica.app import app
from services.inference.replica.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("replica", Settings, app))
