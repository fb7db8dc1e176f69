"""Write `deploy/nats/nats.conf`: `python deploy/nats/make_conf.py`.

The accounts and what they may use are those of the embedded system (`shared/bus/access`); what differs is where the
server listens, where it keeps its data, and that passwords come from its environment.
"""

import re
from pathlib import Path

from llmos.embedded.nats import USERS, configuration, server_settings

TARGET = Path(__file__).with_name("nats.conf")
_HEADER = "# Written by deploy/nats/make_conf.py; a test compares. Change shared/bus/access and run it again.\n"


def password_variable(user: str) -> str:
    """The environment variable of nats-server that holds a user's password."""
    return f"NATS_PASSWORD_{user.upper()}"


def text() -> str:
    """The whole file. References to the environment stand without quotes: that is how the server knows them."""
    passwords = {user: f"${password_variable(user)}" for user in USERS}
    settings = server_settings(4222, Path("/data"), passwords, host="0.0.0.0")  # noqa: S104  # inside its container
    settings["http"] = "127.0.0.1:8222"  # for the health check inside the container alone
    return _HEADER + re.sub(r'"(\$NATS_PASSWORD_[A-Z]+)"', r"\1", configuration(settings)) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
