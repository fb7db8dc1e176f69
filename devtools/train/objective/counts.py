"""What the losses of a step are divided by: counted over all micro-batches of all processes, before the first pass.

A mean of means would weigh a token by how its step happens to be cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from devtools.train.examples import Item
from devtools.train.objective.marks import Marker


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one step.

    tokens: that are learnt; of pairs, those of the chosen answers
    pairs: of a chosen and a rejected answer
    equalised, reversed: places where one of two words follows, for the losses that act there
    """

    tokens: int
    pairs: int = 0
    equalised: int = 0
    reversed: int = 0


def count(items: Sequence[Item], *, equalise: Marker | None = None, reverse: Marker | None = None) -> Counts:
    """The counts of `items`."""

    def marks(marker: Marker | None) -> int:
        return 0 if marker is None else sum(len(marker.of(example)) for item in items for example in item)

    return Counts(
        tokens=sum(item[0].answer_tokens for item in items),
        pairs=sum(len(item) == 2 for item in items),
        equalised=marks(equalise),
        reversed=marks(reverse),
    )
