"""How the items of a step lie in rows of tensors: padded, or several examples in one line.

In a packed line no example is cut, and each sees itself only. What all of them begin with (a system prompt, or the
prompt of a pair) stands there once and is computed once. Neither changes a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from devtools.train.examples import Example, Ids, Item

_WORTH = 0.8
"""Packing is worth its masks where it leaves at most this share of the tokens, padding included."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a batch.

    examples: one, or several that were packed
    shared: tokens that all of them begin with, and that stand once
    """

    examples: tuple[Example, ...]
    shared: int = 0

    @property
    def length(self) -> int:
        """Tokens that stand in it."""
        return self.shared + sum(len(example.ids) - self.shared for example in self.examples)

    def joined(self, examples: Sequence[Example], *, share: bool) -> "Line":
        """With `examples` behind those that are there."""
        together = (*self.examples, *examples)
        return Line(together, common_beginning(together) if share and len(together) > 1 else 0)


MicroBatch = list[Line]


def common_beginning(examples: Sequence[Example]) -> int:
    """Tokens that all examples begin with.

    Less than the prompt of any of them: the last token of a prompt stands right before the answer that it predicts.
    """
    first = examples[0].ids
    length = min(example.start for example in examples) - 1
    for example in examples[1:]:
        length = min(length, _agreement(first[:length], example.ids[:length]))
    return max(length, 0)


def _agreement(one: Ids, other: Ids) -> int:
    differ = np.flatnonzero(one != other)
    return int(differ[0]) if len(differ) else len(one)


def lay_out(
    items: Sequence[Item],
    *,
    tokens: int,
    packing: Literal["auto", "yes", "no"] = "no",
    length: int = 0,
    share: bool = True,
) -> list[MicroBatch]:
    """The micro-batches of a step's items, with lines of about the same length.

    Args:
        items: Of the step.
        tokens: That a micro-batch may have, padding included; what is longer is alone.
        packing: Whether several examples share a line; auto: where that saves a fifth of the tokens.
        length: Tokens of a line that several share.
        share: Whether a common beginning stands once.
    """
    ordered = sorted(items, key=length_of, reverse=True)
    padded = _cut([[Line((example,)) for example in item] for item in ordered], tokens)
    if packing == "no":
        return padded
    packed = _cut([[line] for line in _pack(ordered, length, share=share)], tokens)
    return packed if packing == "yes" or _area(packed) <= _WORTH * _area(padded) else padded


def length_of(item: Item) -> int:
    """Tokens of its longest example."""
    return max(len(example.ids) for example in item)


def _area(micro_batches: Sequence[MicroBatch]) -> int:
    return sum(len(lines) * max(line.length for line in lines) for lines in micro_batches)


def _cut(groups: Sequence[MicroBatch], tokens: int) -> list[MicroBatch]:
    """Groups of lines, which stay together, as micro-batches."""
    micro_batches: list[MicroBatch] = []
    longest = 0
    for group in groups:
        length = max(line.length for line in group)
        if not micro_batches or (len(micro_batches[-1]) + len(group)) * max(longest, length) > tokens:
            micro_batches.append([])
            longest = 0
        micro_batches[-1] += group
        longest = max(longest, length)
    return micro_batches


def _pack(ordered: Sequence[Item], length: int, *, share: bool) -> list[Line]:
    """First fit, the longest first."""
    lines: list[Line] = []
    for item in ordered:
        for at, line in enumerate(lines):
            joined = line.joined(item, share=share)
            if joined.length <= length:
                lines[at] = joined
                break
        else:
            lines.append(Line(()).joined(item, share=share))
    return sorted(lines, key=lambda line: line.length, reverse=True)
