"""Libraries of the extra `data`, loaded when a step needs one."""

import importlib
from typing import Any

from shared.errors import UnsupportedFormat


def load(name: str, extra: str = "data") -> Any:
    """The module; raises UnsupportedFormat that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedFormat(f"this needs {name}: pip install 'llmos[{extra}]'") from error
