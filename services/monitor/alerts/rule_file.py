"""`alerts.toml`: what rules are given, and who is told."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.monitor.alerts.policy.options import RuleOptions
from shared.errors import InvalidInput


class Webhook(BaseModel):
    """An Alertmanager, or what understands its API v2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://[^\s/]+(/\S*)?$")
    """Without `/api/v2/alerts`: `http://127.0.0.1:9093`."""
    repeat_s: float = Field(default=60.0, ge=1, le=3600)
    """Firing alerts are sent again after so many seconds; not sent four times, they count as resolved there."""
    labels: dict[Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = Field(
        default_factory=dict
    )
    """Added to each alert: `cluster = "berlin"`."""


class AlertsFile(BaseModel):
    """The whole file. Without one, all defaults hold and nobody is told but the log and the events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    webhook: Webhook | None = None
    rules: RuleOptions = RuleOptions()


def read_alerts_file(path: Path | None) -> AlertsFile:
    """The file; None: the defaults.

    Raises:
        InvalidInput: It can't be read or parsed, or a key is wrong: named, with what was expected.
    """
    if path is None:
        return AlertsFile()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    try:
        return AlertsFile.model_validate(content)
    except ValidationError as error:
        raise InvalidInput(
            "; ".join(_explain(path, problem["loc"], problem) for problem in error.errors())
        ) from error


def _explain(path: Path, location: tuple[int | str, ...], problem: object) -> str:
    assert isinstance(problem, dict)
    key = ".".join(map(str, location))
    if problem["type"] == "extra_forbidden":
        known: type[BaseModel] = AlertsFile
        for part in location[:-1]:
            kind = known.model_fields[str(part)].annotation
            known = Webhook if kind == Webhook | None else kind  # type: ignore[assignment]
        return f"{path}: there is no key {key}; there are: {', '.join(known.model_fields)}"
    return f"{path}: {key} = {problem['input']!r}: {problem['msg']}"
