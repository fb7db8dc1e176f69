"""How many slots of which length a deployment gets where the defaults don't fit: what there is memory for. Pure."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shared.contracts.manifest import Manifest
from shared.contracts.scheduler import Deployment
from shared.contracts.serving import ReplicaOptions, ServingOptions

DEFAULT_MAX_LEN = 4096
FEW_SLOTS, SHORT = 4, 512
"""Slots are given up down to four first, then length down to 512 tokens, then the other slots."""


class Size(NamedTuple):
    """What the memory of a replica's keys and values depends on."""

    slots: int
    max_len: int

    def __str__(self) -> str:
        return f"{self.slots} slot{'s' if self.slots > 1 else ''} of {self.max_len} tokens"


def asked_size(asked: ServingOptions, manifest: Manifest) -> Size:
    """What is asked for, or the defaults."""
    slots: int = ReplicaOptions.model_fields["slots"].default if asked.slots is None else asked.slots
    return Size(slots, asked.max_len or min(manifest.context_length, DEFAULT_MAX_LEN))


def largest_that_fits(
    size: Size, fits: Callable[[Size], bool], *, slots_named: bool = False, max_len_named: bool = False
) -> Size | None:
    """The largest size up to `size` that `fits`; what is named stays. None: no such size does."""
    lengths = [size.max_len] if max_len_named else list(_lengths(size.max_len))
    few = size.slots if slots_named else min(FEW_SLOTS, size.slots)
    for max_len in lengths:
        found = _most_slots(range(few, size.slots + 1), max_len, fits)
        if found is not None:
            return found
    return None if slots_named else _most_slots(range(1, few), lengths[-1], fits)


def _most_slots(counts: range, max_len: int, fits: Callable[[Size], bool]) -> Size | None:
    """With the largest of `counts`, which are in order, that fits."""
    fitting = bisect_left(counts, True, key=lambda slots: not fits(Size(slots, max_len)))
    return Size(counts[fitting - 1], max_len) if fitting else None


def why_smaller(record: Deployment, manifest: Manifest) -> str:
    """What to tell of a record that got less than the defaults; empty if it didn't."""
    asked = record.asked or ServingOptions()
    default, given = asked_size(asked, manifest), Size(record.options.slots, record.options.max_len)
    return "" if given == default else f"it got {given}, which is what fits: no node has room for {default}"


def _lengths(longest: int) -> Iterator[int]:
    length = longest
    while length > SHORT:
        yield length
        length //= 2
    yield min(longest, max(length, SHORT))
