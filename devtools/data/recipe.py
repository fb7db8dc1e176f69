"""What a preparation does, as TOML: the same for a command line and for a job.

processes = 2
suites = [1]                # of the datasets that are given: against which `overlap` and the check compare

[[mix]]
dataset = 2                 # rows of this one too
share = 0.5

[[step]]
name = "near-duplicates"
threshold = 0.7

[split]
validation = 0.05

[check]
max_tokens = 1024
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devtools.data.balance import Balance, Swap
from devtools.data.block_source import Input
from devtools.data.check import Limits
from devtools.data.clean import Unicode
from devtools.data.language import Language
from devtools.data.length import Length, Tokenizer
from devtools.data.look import rows_of
from devtools.data.masking import Classify, Private
from devtools.data.near import Duplicates, NearDuplicates
from devtools.data.overlap import Overlap, index_of
from devtools.data.pipeline import Plan
from devtools.data.repeat import Repetition
from devtools.data.split import Split
from devtools.data.steps import AnyStep, make
from devtools.data.words import nearest
from devtools.toml import parse_toml, toml_value
from shared.errors import InvalidInput

STEPS: Mapping[str, type[Any]] = {
    kind.name: kind
    for kind in (
        Unicode,
        Length,
        Language,
        Repetition,
        Private,
        Duplicates,
        NearDuplicates,
        Overlap,
        Swap,
        Balance,
    )
}
"""In the order in which `llmos data prepare` runs them."""
_TABLES = ("processes", "suites", "mix", "step", "split", "check")
_CHECK = ("max_characters", "max_tokens", "regions")
_SPLIT = ("validation", "test", "seed")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done, without the rows.

    steps: (name, parameters)
    mix: (number of a dataset, share of its rows)
    suites: numbers of datasets
    split, check: their parameters
    """

    steps: Sequence[tuple[str, Mapping[str, Any]]] = ()
    mix: Sequence[tuple[int, float]] = ()
    suites: Sequence[int] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Of TOML.

        Raises:
            InvalidInput: Not TOML, or an unknown key, with the nearest one.
        """
        found = parse_toml(text)
        _known(found, _TABLES, "")
        steps = []
        for table in _tables(found, "step"):
            if not isinstance(table.get("name"), str):
                raise InvalidInput(f"step: name: expected one of {', '.join(STEPS)}", param="step.name")
            steps.append((table["name"], {key: value for key, value in table.items() if key != "name"}))
        mix = []
        for table in _tables(found, "mix"):
            _known(table, ("dataset", "share"), "mix.")
            mix.append((_number(table, "dataset"), float(table.get("share", 1.0))))
        suites = found.get("suites", [])
        if not isinstance(suites, list) or not all(isinstance(one, int) for one in suites):
            raise InvalidInput("suites: expected a list of numbers of datasets", param="suites")
        split, check = found.get("split", {}), found.get("check", {})
        _known(split, _SPLIT, "split.")
        _known(check, _CHECK, "check.")
        processes = found.get("processes", 1)
        if not isinstance(processes, int) or not 1 <= processes <= 1024:
            raise InvalidInput("processes: expected a number from 1 to 1024", param="processes")
        return cls(steps, mix, suites, split, check, processes)

    def toml(self) -> str:
        """As TOML."""
        lines = [f"processes = {self.processes}", f"suites = {list(self.suites)}"]
        for number, share in self.mix:
            lines += ["", "[[mix]]", f"dataset = {number}", f"share = {share}"]
        for name, parameters in self.steps:
            lines += ["", "[[step]]", f"name = {toml_value(name)}", *_lines(parameters)]
        for title, table in (("split", self.split), ("check", self.check)):
            if table:
                lines += ["", f"[{title}]", *_lines(table)]
        return "\n".join(lines) + "\n"

    def plan(
        self, given: Sequence[Input], *, tokenizer: Tokenizer | None = None, classify: Classify | None = None
    ) -> tuple[list[Input], Plan]:
        """The inputs and the plan.

        Args:
            given: The dataset, and those that `mix` and `suites` mean by their numbers.
            tokenizer: Counts tokens.
            classify: Finds persons.

        Raises:
            InvalidInput: A number without a dataset; an unknown step or parameter, with the nearest one.
        """
        for number in (*self.suites, *(number for number, _ in self.mix)):
            if not 1 <= number < len(given):
                raise InvalidInput(f"there is no dataset {number} among the {len(given)} that are given", param="mix")
        suites = [given[number] for number in self.suites]
        indices = [index_of(rows_of(one.folder, one.manifest)) for one in suites]
        steps = self._steps(tokenizer, classify, [one.digest for one in suites], indices)
        split = self._split()
        names = {f"{number}": index for number, index in zip(self.suites, indices, strict=True)}
        limits = Limits(
            max_characters=self.check.get("max_characters", 0),
            max_tokens=self.check.get("max_tokens", 0),
            tokenizer=tokenizer,
            regions=tuple(self.check.get("regions", ())),
            suites=names,
        )
        inputs = [given[0], *(_shared(given[number], share) for number, share in self.mix)]
        return inputs, Plan(steps, split, tokenizer, limits)

    def verify(self, *, tokenizer: bool, classify: Classify | None) -> None:
        """Raise what `plan` would raise of the steps, before any row is fetched."""
        self._steps(Tokenizer("", b"") if tokenizer else None, classify, ["" for _ in self.suites], self.suites)
        self._split()

    def _steps(
        self, tokenizer: Tokenizer | None, classify: Classify | None, suites: Sequence[str], indices: Sequence[Any]
    ) -> list[AnyStep]:
        steps = []
        for name, parameters in self.steps:
            extra: dict[str, Any] = {}
            values = dict(parameters)
            match name:
                case "length" if parameters.get("max_tokens"):
                    extra["tokenizer"] = tokenizer
                case "private" if parameters.get("model"):
                    extra["classify"] = classify
                case "overlap":
                    values["suites"] = list(suites)
                    extra["indices"] = indices
            steps.append(make(STEPS, name, values, extra))
        return steps

    def _split(self) -> Split | None:
        return Split(**self.split) if self.split else None


def _shared(one: Input, share: float) -> Input:
    return Input(one.folder, one.manifest, one.digest, share)


def _tables(found: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    tables = found.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidInput(f"{name}: expected tables [[{name}]]", param=name)
    return tables


def _number(table: Mapping[str, Any], key: str) -> int:
    if not isinstance(table.get(key), int):
        raise InvalidInput(f"mix.{key}: expected the number of a dataset, from 1", param=f"mix.{key}")
    number: int = table[key]
    return number


def _known(table: Any, keys: Sequence[str], prefix: str) -> None:
    if not isinstance(table, dict):
        raise InvalidInput(f"{prefix.rstrip('.')}: expected a table", param=prefix.rstrip("."))
    for key in table:
        if key not in keys:
            raise InvalidInput(f"{prefix}{key}: there is no such key{nearest(key, keys)}", param=f"{prefix}{key}")


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {toml_value(value)}" for key, value in table.items()]
