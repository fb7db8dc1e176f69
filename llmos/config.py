"""Where the command line takes its settings from: option, environment, the home's `config.toml`, default."""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from llmos.client import Client
from llmos.home import DEFAULT_HOME, Home
from shared.errors import InvalidInput, Unavailable

_SETTING = re.compile(r"LLMOS_[A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Target:
    """Which system a command talks to."""

    home: Home
    url: str | None
    api_key: str | None

    @classmethod
    def resolve(cls, home: Path | None, url: str | None, api_key: str | None) -> "Target":
        """Options win over the environment, which wins over `config.toml`."""
        chosen = Home.named(home or Path(os.environ.get("LLMOS_HOME") or DEFAULT_HOME))
        load_config(chosen)
        return cls(chosen, url or os.environ.get("LLMOS_URL"), api_key or os.environ.get("LLMOS_API_KEY"))

    def check(self) -> None:
        """Raise what `client` raises: a wrong URL or key is named before what is wrong with the rest."""
        with self.client():
            pass

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
        # Editors on Windows put a byte order mark before UTF-8.
        settings = tomllib.loads(home.config_file.read_bytes().decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InvalidInput(f"{home.config_file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{home.config_file}: byte {error.start} is not UTF-8; save the file in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"{home.config_file}: {error}") from error
    for name, value in settings.items():
        if not _SETTING.fullmatch(name) or isinstance(value, (dict, list)):
            raise InvalidInput(f"{home.config_file}: {name} is not a setting; expected LLMOS_… = a plain value")
        try:
            os.environ.setdefault(name, str(value).lower() if isinstance(value, bool) else str(value))
        except ValueError as error:  # a NUL, or a character that the system's encoding lacks
            raise InvalidInput(f"{home.config_file}: the value of {name} can't be used: {error}") from error
