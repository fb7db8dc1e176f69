import sys

from services.registry.app import app
from services.registry.settings import Settings
from shared.service.run import main

if __name__ == "__main__":
    sys.exit(main("registry", Settings, app))
