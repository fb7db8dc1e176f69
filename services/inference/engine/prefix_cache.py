"""The prefix cache: blocks of keys and values that prompts with the same beginning copy. Bookkeeping only. Pure.

A block holds the keys and values of as many tokens as a full chunk. Its key is a hash of its tokens and of all before
them, so equal keys mean equal content. A block is

    free ──reserve──> coming ──fill──> ready ──(least recently used, no children, not pinned)──> free
      │                  └──abandon──> free
      └──reserve_preempted──> preempted ──release──> free

Preempted blocks hold what a preempted sequence had computed; only that sequence uses them. Which other blocks are
stored is decided by `policy.block_reservation`: a sequence that copies them must have the bits that it would compute.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence

_KEY_BYTES = 32


def block_keys(tokens: Sequence[int], size: int, salt: str = "", *, after: bytes | None = None) -> list[bytes]:
    """The keys of all full blocks of a sequence, each chained to the one before.

    Args:
        tokens: Its token ids, or those that follow a block.
        size: Tokens of a block.
        salt: Sequences share blocks only with those of the same salt.
        after: The key of the block that `tokens` follow; None if they are the first.

    Returns:
        One BLAKE2b digest for each of the `len(tokens) // size` full blocks.
    """
    ids = memoryview(array("q", tokens)).cast("B")
    width = size * 8
    key = after or hashlib.blake2b(salt.encode(), digest_size=_KEY_BYTES, person=b"llmos-prefix").digest()
    keys = []
    for start in range(0, len(ids) // width * width, width):
        key = hashlib.blake2b(ids[start : start + width], digest_size=_KEY_BYTES, key=key).digest()
        keys.append(key)
    return keys


class Block:
    """A place for the keys and values of a chunk's tokens. Only the cache changes it."""

    __slots__ = ("children", "index", "key", "parent", "pins")

    def __init__(self, index: int, key: bytes, parent: "Block | None") -> None:
        self.index = index
        """Its place in the decoder's block memory."""
        self.key = key
        self.parent = parent
        """The block of the tokens before, None for the first of a prompt."""
        self.children = 0
        """Blocks, ready or coming, whose parent this is."""
        self.pins = 0
        """Planned copies out of it."""


class PrefixCache:
    """Up to `blocks` blocks; 0 switches it off.

    Every parent is used at least as recently as its children, so the least recently used block has none.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._ready: OrderedDict[bytes, Block] = OrderedDict()
        self._coming: dict[bytes, Block] = {}
        self._preempted: dict[int, Block] = {}
        self._latest: dict[int, Block] = {}
        """By place, the block that took it last."""

    def __len__(self) -> int:
        """Blocks in use."""
        return len(self._ready) + len(self._coming)

    @property
    def blocks(self) -> int:
        """Blocks that it may hold at most."""
        return self._blocks

    def at(self, index: int) -> Block:
        """The block in a place that is not free."""
        return self._latest[index]

    def find(self, keys: Sequence[bytes], first: int = 0) -> list[Block]:
        """The ready blocks of `keys[first:]`, up to the first that is missing."""
        found = []
        for key in keys[first:]:
            block = self._ready.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def is_coming(self, key: bytes) -> bool:
        """Whether the current step computes the block of this key."""
        return key in self._coming

    def take(self, block: Block) -> None:
        """A copy out of the block is planned: it stays until `release`, and counts as used now."""
        block.pins += 1
        self._touch(block)

    def reserve_preempted(self, count: int) -> list[Block] | None:
        """Blocks for what a preempted sequence has computed; `find` does not return them. `release` frees them.

        Returns:
            `count` blocks, or None if too few are free or can be evicted.
        """
        while len(self._free) < count:
            if not self._evict():
                return None
        blocks = [self._make(b"", None) for _ in range(count)]
        self._preempted |= {block.index: block for block in blocks}
        return blocks

    def release(self, block: Block) -> None:
        """The planned copy was made, or the preempted sequence has ended or continues."""
        if self._preempted.get(block.index) is block:
            del self._preempted[block.index]
            self._free.append(block.index)
            return
        if block.pins < 1:
            raise RuntimeError(f"block {block.index} is released but was not taken")
        block.pins -= 1

    def reserve(self, key: bytes, parent_key: bytes | None, before: Block | None = None) -> Block | None:
        """A block that the current step computes; `fill` or `abandon` must follow.

        Args:
            key: Its own.
            parent_key: That of the block of the tokens before; None for the first of a prompt.
            before: The block reserved for the tokens before, if the same run computes them: both succeed or fail.

        Returns:
            None if the block is ready or coming, has lost its parent (so it could not be found), or has no place.
        """
        if key in self._ready or key in self._coming:
            return None
        parent = None if parent_key is None else self._ready.get(parent_key, before)
        if parent_key is not None and parent is None:
            return None
        if parent is not None:
            parent.children += 1
        if not self._free and not self._evict():
            if parent is not None:
                parent.children -= 1
            return None
        block = self._make(key, parent)
        self._coming[key] = block
        return block

    def fill(self, block: Block) -> None:
        """The block was computed and stored: other sequences may copy it."""
        del self._coming[block.key]
        self._ready[block.key] = block
        self._touch(block)

    def abandon(self, block: Block) -> None:
        """The block was not computed."""
        del self._coming[block.key]
        self._forget(block)

    def check_integrity(self, *, between_steps: bool = True) -> None:
        """Raise AssertionError unless places, parents and counts agree.

        Args:
            between_steps: Whether no step is planned: then nothing is pinned and nothing is coming.
        """
        used = [*self._ready.values(), *self._coming.values(), *self._preempted.values()]
        assert sorted([*self._free, *(b.index for b in used)]) == list(range(self._blocks)), (
            "a block is lost or doubled"
        )
        assert all(self._latest[block.index] is block for block in used), "a place has another block"
        assert not self._ready.keys() & self._coming.keys(), "a block is ready and coming"
        order = {key: index for index, key in enumerate(self._ready)}
        children = dict.fromkeys(map(id, used), 0)
        for block in used:
            if block.parent is not None:
                where = self._ready if block.key in order or block.parent.key in order else self._coming
                assert where.get(block.parent.key) is block.parent, "a block outlived its parent"
                children[id(block.parent)] += 1
                if block.key in order:
                    assert order[block.parent.key] > order[block.key], "a parent is older than its child"
        for block in used:
            assert block.children == children[id(block)], "children are miscounted"
            assert block.pins >= 0, "pins are miscounted"
            assert not (between_steps and block.pins), "a block is pinned and no step is planned"
        assert not (between_steps and self._coming), "a block is coming and no step is planned"

    def _make(self, key: bytes, parent: Block | None) -> Block:
        index = self._free.pop()
        block = self._latest[index] = Block(index, key, parent)
        return block

    def _evict(self) -> bool:
        """Free the least recently used block that may go; False if none may."""
        victim = next((block for block in self._ready.values() if not block.children and not block.pins), None)
        if victim is None:
            return False
        del self._ready[victim.key]
        self._forget(victim)
        return True

    def _forget(self, block: Block) -> None:
        self._free.append(block.index)
        if block.parent is not None:
            block.parent.children -= 1

    def _touch(self, block: Block) -> None:
        for each in _upwards(block):
            self._ready.move_to_end(each.key)


def _upwards(block: Block) -> Iterator[Block]:
    each: Block | None = block
    while each is not None:
        yield each
        each = each.parent
