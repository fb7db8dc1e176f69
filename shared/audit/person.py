"""Who runs this program."""

import os
import pwd
import socket


def person() -> str:
    """The user and the machine, for events of commands that need no API key."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        user = f"uid {os.getuid()}"
    return f"{user} on {socket.gethostname()}"
