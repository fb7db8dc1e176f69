"""What a gate asks: suites, and a rule for each. As a file it is `gate.toml`, which a team keeps beside its code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from devtools.data.words import nearest
from devtools.evaluate.gate import MAY_FALL_BY, Rule
from devtools.toml import parse_toml
from shared.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a gate.

    rules: by suite, `name`, `name:3` or `name@alias`; empty: `otherwise` holds for all suites that were measured
    otherwise: for a suite that has no rule of its own
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    otherwise: Rule = field(default_factory=Rule)

    def rule_of(self, suite: str) -> Rule | None:
        """The rule for `name:version`; None if the gate does not ask for this suite."""
        if not self.rules:
            return self.otherwise
        name = suite.rsplit(":", 1)[0]
        return next((rule for key, rule in self.rules.items() if key.split("@")[0] in {suite, name}), None)

    def missing(self, suites: set[str]) -> list[str]:
        """The suites that have a rule and are not among those `name:version` that were measured."""
        known = suites | {suite.rsplit(":", 1)[0] for suite in suites}
        return [key for key in self.rules if key.split("@")[0] not in known]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    may_fall_by: float | None = Field(default=None, ge=0)
    must_rise_by: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.may_fall_by is not None and self.must_rise_by is not None:
            raise ValueError("may_fall_by and must_rise_by exclude one another: give one")
        return self

    def rule(self, otherwise: Rule) -> Rule:
        if self.may_fall_by is None and self.must_rise_by is None:
            return otherwise
        return Rule(MAY_FALL_BY if self.may_fall_by is None else self.may_fall_by, self.must_rise_by)


class GateFile(_Table):
    """A gate's file. Its own `may_fall_by` or `must_rise_by` holds for suites that have none."""

    against: str | None = None
    """The baseline: a deployment, or a version."""
    n: int | None = Field(default=None, ge=1)
    """Items of each suite at most, where suites are put to both versions now."""
    judge: str | None = None
    """The deployment that judges, for suites that want one."""
    suites: dict[str, _Table] = Field(min_length=1)
    """By name."""

    def policy(self) -> Policy:
        """Its rules."""
        otherwise = self.rule(Rule())
        return Policy({name: table.rule(otherwise) for name, table in self.suites.items()}, otherwise)


def read_gate(path: Path) -> GateFile:
    """Read a gate's file.

    Raises:
        NotFound: It can't be read.
        InvalidInput: It is no gate; the message has the key and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the gate {path} can't be read: {error.strerror}", param="policy") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the gate {path} is not UTF-8 at byte {error.start}", param="policy") from None
    values = parse_toml(text, f"the gate {path}")
    try:
        return GateFile.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {_explained(error)}", param="policy") from None


def _explained(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_context=False)[0]
    *tables, key = [str(part) for part in first["loc"]] or [""]
    where = ".".join([*tables, key])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = (_Table if tables else GateFile).model_fields
        return f"there is no key {where!r}{nearest(key, known)}"
    if first["type"] == "missing" or (key == "suites" and first["type"] == "too_short"):
        return "it names no suite; expected a table for each, such as [suites.team]"
    return f"{where}: {message}" if where else message
