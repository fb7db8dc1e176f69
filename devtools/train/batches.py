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
from devtools.train.model.decoder import Places


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


def length_of(item: Item) -> int:
    """Tokens of its longest example."""
    return max(len(example.ids) for example in item)


def cut(items: Sequence[Item], *, tokens: int, packed_len: int | None = None) -> list[list[list[Item]]]:
    """A step's items as micro-batches of rows of items, alike in length.

    Args:
        items: Of the step.
        tokens: That a micro-batch may have, padding included; what is longer is alone.
        packed_len: Tokens of a row that several items share; None: an item is alone in its rows.

    Returns:
        Micro-batches, of rows, of items. An item of two examples takes a row for each, unless it is packed.
    """
    ordered = sorted(items, key=length_of, reverse=True)
    rows = [[item] for item in ordered] if packed_len is None else _pack(ordered, packed_len)
    micro: list[list[list[Item]]] = []
    longest = 0
    for row in rows:
        length = _row_tokens(row) if packed_len else length_of(row[0])
        lines = 1 if packed_len else len(row[0])
        used = sum(1 if packed_len else len(other[0]) for other in micro[-1]) if micro else 0
        if not micro or (used + lines) * max(longest, length) > tokens:
            micro.append([])
            longest = 0
        micro[-1].append(row)
        longest = max(longest, length)
    return micro


def _row_tokens(row: Sequence[Item]) -> int:
    return sum(len(example.ids) for item in row for example in item)


def _pack(ordered: Sequence[Item], length: int) -> list[list[Item]]:
    """First fit, the longest first: no item is cut."""
    rows: list[list[Item]] = []
    free: list[int] = []
    for item in ordered:
        size = _row_tokens([item])
        at = next((index for index, left in enumerate(free) if left >= size), None)
        if at is None:
            rows.append([])
            free.append(max(length, size))
            at = len(rows) - 1
        rows[at].append(item)
        free[at] -= size
    return sorted(rows, key=_row_tokens, reverse=True)


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch.

    ids: int64 [B, T], padded on the right
    places: where the tokens stand
    learnt: bool [B, T], the tokens that are learnt, each from those before it
    document: int64 [B, T], the number of a token's example in this batch; -1 for padding
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


def make_batch(rows: Sequence[Sequence[Item]], *, packed: bool) -> Batch:
    """The tensors of one micro-batch; with `packed` the items of each row stand in one line."""
    lines: list[list[Example]] = []
    for row in rows:
        examples = [example for item in row for example in item]
        lines += [examples] if packed else [[example] for example in examples]
    length = max(sum(len(example.ids) for example in line) for line in lines)
    shape = (len(lines), length)
    ids, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    learnt, document = torch.zeros(shape, dtype=torch.bool), torch.full(shape, -1)
    flat = [example for line in lines for example in line]
    number = 0
    for at, line in enumerate(lines):
        begin = 0
        for example in line:
            end = begin + len(example.ids)
            ids[at, begin:end] = torch.from_numpy(example.ids)
            positions[at, begin:end] = torch.arange(len(example.ids))
            learnt[at, begin + example.start : end] = True
            document[at, begin:end] = number
            begin, number = end, number + 1
    lengths = torch.tensor([len(example.ids) for example in flat])
    return Batch(ids, Places(positions, document if packed else None), learnt, document, lengths, tuple(flat))
