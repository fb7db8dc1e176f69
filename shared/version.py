"""Which LLMOS this is."""

import importlib.metadata


def llmos_version() -> str:
    """The installed distribution's version."""
    try:
        return importlib.metadata.version("llmos")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"
