"""Which items each step has, and how they lie in tensors.

The order is a function of (seed, epoch), so a resumed run continues with the very rows. How a step is cut into
micro-batches changes no loss: a loss is a sum that is divided by what the whole step counts.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from devtools.train.examples import Example, Item
from devtools.train.lines import Line
from devtools.train.model.attention import PADDING, SHARED, Places


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """The order of `count` items in an epoch."""
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311  # an order, not a secret
    return tuple(order)


def items_of_step(items: Sequence[Item], step: int, *, seed: int, batch: int) -> list[Item]:
    """The `batch` items of `step` (from 0): the next in the order of the epoch, and then of the epoch after it."""
    places = (divmod(at, len(items)) for at in range(step * batch, (step + 1) * batch))
    return [items[epoch_order(seed, epoch, len(items))[place]] for epoch, place in places]


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch.

    ids: int64 [B, T], padded on the right
    places: where the tokens stand
    learnt: bool [B, T], the tokens that are learnt, each from those before it
    document: int64 [B, T], the number of a token's example in this batch, `PADDING`, or `SHARED` by all of a line
    lengths: int64 [E], tokens of each example
    examples: E examples; those of a pair follow one another
    """

    ids: Tensor
    places: Places
    learnt: Tensor
    document: Tensor
    lengths: Tensor
    examples: tuple[Example, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """The ids of the rows in it."""
        return tuple(dict.fromkeys(example.row for example in self.examples))

    @property
    def targets(self) -> Tensor:
        """The ids that are learnt: int64 [N], in the order of `Batch.before`."""
        return self.ids[self.learnt]

    def before(self, hidden: Tensor) -> Tensor:
        """The hidden states [N, H] from which they are predicted: each of the token before."""
        return hidden[:, :-1][self.learnt[:, 1:]]

    @property
    def owners(self) -> Tensor:
        """The example of each of `targets`: int64 [N]."""
        return self.document[self.learnt]


def make_batch(lines: Sequence[Line]) -> Batch:
    """The tensors of one micro-batch."""
    shape = (len(lines), max(line.length for line in lines))
    ids, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    learnt, document = torch.zeros(shape, dtype=torch.bool), torch.full(shape, PADDING)
    number = 0
    for at, line in enumerate(lines):
        end = line.shared
        ids[at, :end] = torch.from_numpy(line.examples[0].ids[:end])
        positions[at, :end] = torch.arange(end)
        document[at, :end] = SHARED
        for example in line.examples:
            own = example.ids[line.shared :]
            begin, end = end, end + len(own)
            ids[at, begin:end] = torch.from_numpy(own)
            positions[at, begin:end] = torch.arange(line.shared, len(example.ids))
            learnt[at, begin + example.start - line.shared : end] = True
            document[at, begin:end] = number
            number += 1
    packed = any(len(line.examples) > 1 for line in lines)
    examples = tuple(example for line in lines for example in line.examples)
    lengths = torch.tensor([len(example.ids) for example in examples])
    return Batch(ids, Places(positions, document if packed else None), learnt, document, lengths, examples)


def alone(examples: Sequence[Example]) -> Batch:
    """A batch of examples in lines of their own."""
    return make_batch([Line((example,)) for example in examples])
