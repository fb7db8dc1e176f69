"""Where the command line takes its settings from: option, environment, the home's `config.toml`, default."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from llmos.client import Client
from llmos.home import DEFAULT_HOME, Home
from shared.errors import InvalidInput, Unavailable


@dataclass(frozen=True, slots=True)
class Target:
    """Which system a command talks to."""

    home: Home
    url: str | None
    api_key: str | None

    @classmethod
    def resolve(cls, home: Path | None, url: str | None, api_key: str | None) -> "Target":
        """Options win over the environment, which wins over `config.toml`."""
        chosen = Home.at(home or Path(os.environ.get("LLMOS_HOME") or DEFAULT_HOME))
        load_config(chosen)
        return cls(chosen, url or os.environ.get("LLMOS_URL"), api_key or os.environ.get("LLMOS_API_KEY"))

    def client(self) -> Client:
        """A client of the gateway: the URL given, else that of the home's running system."""
        url, key = self.url, self.api_key
        if url is None:
            system = self.home.system()
            if system is None:
                raise Unavailable(
                    f"no LLMOS runs from {self.home.root}; start it with 'llmos up', or give --url or LLMOS_URL"
                )
            url = system.url
            key = key or self.home.admin_key()
        return Client(url, key or "")


def load_config(home: Home) -> None:
    """Put the settings of `config.toml` into the environment, where services read them; what is set there wins."""
    try:
        settings = tomllib.loads(home.config_file.read_text())
    except FileNotFoundError:
        return
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{home.config_file}: {error}") from error
    for name, value in settings.items():
        if not name.startswith("LLMOS_") or isinstance(value, (dict, list)):
            raise InvalidInput(f"{home.config_file}: {name} is not a setting; expected LLMOS_… = a plain value")
        os.environ.setdefault(name, str(value).lower() if isinstance(value, bool) else str(value))
