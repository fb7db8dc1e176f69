"""docker-compose.yml as Compose sees it, and deploy/Dockerfile's instructions, for tests without a Docker engine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SERVICES = ("registry", "scheduler", "inference", "gateway", "monitor")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


class MissingVariable(Exception):
    """What Compose says when `${NAME:?message}` has no value."""


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in all strings of a document, as Compose does."""
    if isinstance(value, dict):
        return {key: interpolate(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        given = environment.get(found["name"], "")
        if not given and found["kind"] == "?":
            raise MissingVariable(f"{found['name']}: {found['rest']}")
        return given or (found["rest"] if found["kind"] == "-" else "")

    text = _VARIABLE.sub(replace, value)
    assert "$" not in text, f"not in a form that this reader knows: {value}"
    return text


def compose(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file; with an environment, its variables replaced."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    return document if environment is None else interpolate(document, environment)


def dotenv(text: str) -> dict[str, str]:
    """The variables of a `.env` file in the plain form that `make_secrets.py` writes."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def seconds(duration: str) -> int:
    """`25s` and `1m` as Compose writes durations."""
    found = re.fullmatch(r"(\d+)(s|m)", duration)
    assert found, duration
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order: name and the rest, continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = [line.split(None, 1) for line in lines if line.strip()]
    return [(name, rest) for name, rest in found]


def exec_form(name: str) -> list[str]:
    """The arguments of the last ENTRYPOINT or HEALTHCHECK; fails unless it is in exec form."""
    rest = [rest for instruction, rest in instructions() if instruction == name][-1]
    argv: list[str] = json.loads(rest[rest.index("[") :])
    return argv
