"""What a search job is told: what a training job is told, and the table `[search]`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devtools.jobs.train.plan import TABLE as JOB
from devtools.jobs.train.plan import Plan
from devtools.toml import parse_toml, toml_text
from devtools.train.search.space import TABLE, Choice, SearchTable, Space, parse_search, with_values
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A training and what is searched.

    training: With the recipe's own values.
    values: All keys but `[search]`.
    table: The search.
    """

    training: Plan
    values: Mapping[str, Any]
    table: SearchTable
    space: Space

    @classmethod
    def read(cls, text: str) -> "SearchPlan":
        """The plan of a job's recipe; raises InvalidInput that names the key."""
        return cls.of(parse_toml(text))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SearchPlan":
        """The plan with these keys; raises InvalidInput that names the key."""
        keys = {name: value for name, value in values.items() if name != TABLE}
        training = Plan.of(keys)
        for key in ("processes", "nodes"):
            if getattr(training.job, key) > 1:
                raise InvalidInput(
                    f"recipe, [job]: {key}: the trainings of a search take one process each; leave it out", param=key
                )
        recipe = {name: value for name, value in keys.items() if name != JOB}
        table, space = parse_search(values.get(TABLE, {}), recipe)
        return cls(training, keys, table, space)

    @property
    def search_toml(self) -> str:
        """Of the search alone, for the child process."""
        return toml_text({TABLE: self.table.model_dump(mode="json")})

    def extremes(self) -> list[Plan]:
        """The trainings with the lowest and the highest value of each key, for an estimate of their memory."""
        found = []
        for key, one in self.space.items():
            ends = one.values if isinstance(one, Choice) else (one.low, one.high)
            found += [Plan.of(with_values(self.values, {key: value})) for value in ends]
        return found
