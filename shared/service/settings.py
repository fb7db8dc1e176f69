"""What every service reads from its environment, once, at start."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from shared.contracts.manifest import NAME_PATTERN
from shared.deadlines import SERVICE_DRAIN_S
from shared.errors import InvalidInput

ENV_PREFIX = "LLMOS_"
INSTANCE_VARIABLE = "LLMOS_INSTANCE"
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIALS|URL", re.IGNORECASE)


def _terminal_or_not() -> Literal["json", "console"]:
    return "console" if sys.stderr.isatty() else "json"


LogFormat = Literal["json", "console"]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]


class ServiceSettings(BaseSettings):
    """Settings common to all services. Frozen; each service's own class adds its fields.

    A field without an alias is read from `LLMOS_<FIELD>`. A service names its own variables explicitly:
    `port: int = Field(default=8000, validation_alias="LLMOS_GATEWAY_PORT")`; code and tests may still pass `port=0`.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="ignore",
        validate_by_name=True,
        validate_by_alias=True,
        env_ignore_empty=True,
        use_attribute_docstrings=True,  # docs/configuration.md is written from them
    )

    nats_url: str = "nats://127.0.0.1:4222"
    """Address of the bus, with user and password: `nats://user:password@host:4222`."""
    instance: str = Field(default="", pattern=rf"^$|{NAME_PATTERN}")
    """Name of this process among those of its service. Default: `<service>-<random>`."""
    log_format: LogFormat = Field(default_factory=_terminal_or_not)
    """Form of a log line. Default: `console` on a terminal, else `json`."""
    log_level: LogLevel = "info"
    """Records below this level are not logged."""
    drain_timeout: float = Field(default=SERVICE_DRAIN_S, gt=0.0, le=3600.0)
    """Seconds after SIGTERM in which work under way may end."""
    health_file: Path | None = None
    """File that is written with each heartbeat, for a container's health check (`shared.service.health_file`)."""
    disk_folder: Path | None = None
    """Folder on the disk that the bus, the store and the logs share. Before it is full, telemetry stops, then
    imports, then changes; answers go on. Not set: it is not watched."""


Settings = TypeVar("Settings", bound=ServiceSettings)


def load_settings(kind: type[Settings]) -> Settings:
    """The settings from the environment.

    Raises:
        InvalidInput: names each environment variable that is wrong and what was expected there.
    """
    try:
        return kind()
    except ValidationError as error:
        problems = [_explain(kind, problem["loc"], problem["msg"], problem["input"]) for problem in error.errors()]
        raise InvalidInput("; ".join(problems)) from error
    except SettingsError as error:
        raise InvalidInput(f"the environment cannot be read: {error}") from error


def _explain(kind: type[ServiceSettings], location: tuple[int | str, ...], expected: str, given: object) -> str:
    """`LLMOS_GATEWAY_PORT='x': Input should be a valid integer`; values that may be secret are not shown."""
    if not location:
        return expected
    variable = variable_name(kind, str(location[0]))
    expected = expected.removeprefix("Value error, ")
    if isinstance(given, dict):
        return f"{variable} is not set: {expected}"
    return f"{variable}: {expected}" if _SECRET.search(variable) else f"{variable}={given!r}: {expected}"


def variable_name(kind: type[ServiceSettings], location: str) -> str:
    """The environment variable of a field; `location` is the field's name or alias."""
    field = kind.model_fields.get(location)
    if field is None:
        return location.upper()
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{ENV_PREFIX}{location.upper()}"
