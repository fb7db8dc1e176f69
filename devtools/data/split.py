"""Which split a row goes to: by the hash of what it belongs to, so it stays there when other rows come or go."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from devtools.data.rows import Row
from devtools.data.texts import prompt_of
from shared.errors import InvalidInput


def group_of(row: Row) -> str:
    """What the row belongs to: its group, else its prompt, else itself."""
    return row.group or prompt_of(row) or row.id


def share_of(key: str, seed: int = 0) -> float:
    """A number from 0 to below 1 that depends on nothing but the key and the seed."""
    digest = hashlib.blake2b(f"{seed}\x1f{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class Split:
    """Moves rows of `train` to `validation` and `test`; the other splits stay as they are.

    validation, test: their shares of the groups, 0 to below 1
    seed: another one gives another choice
    """

    validation: float = 0.0
    test: float = 0.0
    seed: int = 0
    name: ClassVar[str] = "split"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise InvalidInput(
                "step split: expected shares of 0 or more whose sum is below 1:"
                f" validation {self.validation:g}, test {self.test:g}",
                param="validation",
            )

    def of(self, row: Row, split: str) -> str:
        """The split of a row that is in `split`."""
        if split != "train":
            return split
        share = share_of(group_of(row), self.seed)
        if share < self.test:
            return "test"
        return "validation" if share < self.test + self.validation else "train"

    @property
    def parameters(self) -> Mapping[str, float]:
        """What a version records."""
        return {"validation": self.validation, "test": self.test, "seed": self.seed}
