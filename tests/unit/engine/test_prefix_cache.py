import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.inference.engine.prefix_cache import Block, PrefixCache, block_keys


def chain(cache: PrefixCache, *names: bytes) -> list[Block]:
    """Blocks that follow one another, ready."""
    blocks = []
    for parent, name in zip((None, *names), names, strict=False):
        block = cache.reserve(name, parent)
        assert block is not None
        cache.fill(block)
        blocks.append(block)
    return blocks


def test_equal_beginnings_have_equal_keys_and_nothing_else_has():
    first = block_keys(range(10), 3)
    assert len(first) == 3
    assert block_keys([*range(9), 99, 98], 3) == first
    assert block_keys([*range(6), 99, 98, 97], 3)[:2] == first[:2]
    assert block_keys([*range(6), 99, 98, 97], 3)[2] != first[2]
    moved = block_keys([7, *range(1, 9)], 3)
    assert not set(moved) & set(first), "a block's key covers all tokens before it"
    assert not set(block_keys(range(10), 3, "salt")) & set(first)
    assert block_keys(range(2), 3) == []
    assert block_keys(range(6, 10), 3, after=first[1]) == first[2:]


def test_a_block_can_be_found_once_it_is_filled():
    cache = PrefixCache(2)
    block = cache.reserve(b"a", None)
    assert block is not None
    assert cache.is_coming(b"a")
    assert cache.find([b"a"]) == []
    assert cache.reserve(b"a", None) is None, "it is computed once"
    cache.fill(block)
    assert cache.find([b"a", b"b"]) == [block]
    assert cache.reserve(b"a", None) is None


def test_an_abandoned_block_leaves_its_place():
    cache = PrefixCache(1)
    block = cache.reserve(b"a", None)
    assert block is not None
    cache.abandon(block)
    cache.check_integrity()
    assert len(cache) == 0
    chain(cache, b"b")


def test_the_least_recently_used_block_goes_first_and_a_parent_after_its_children():
    cache = PrefixCache(4)
    chain(cache, b"a", b"ab")
    chain(cache, b"c", b"cd")
    (root, _) = cache.find([b"a", b"ab"])
    cache.take(root)
    cache.release(root)
    assert cache.reserve(b"e", None) is not None
    assert cache.find([b"a", b"ab"]) == [root], "the leaf of the chain whose root was used last is the oldest leaf"
    assert cache.reserve(b"f", None) is not None
    assert len(cache.find([b"c", b"cd"])) == 1
    cache.check_integrity(between_steps=False)


def test_a_block_that_will_be_copied_stays():
    cache = PrefixCache(1)
    (block,) = chain(cache, b"a")
    cache.take(block)
    assert cache.reserve(b"b", None) is None
    cache.release(block)
    assert cache.reserve(b"b", None) is not None
    with pytest.raises(RuntimeError, match="not taken"):
        cache.release(block)


def test_a_block_whose_parent_is_gone_is_not_reserved():
    cache = PrefixCache(2)
    assert cache.reserve(b"ab", b"a") is None


def test_a_chain_longer_than_the_cache_keeps_its_beginning():
    cache = PrefixCache(2)
    chain(cache, b"a", b"ab")
    assert cache.reserve(b"abc", b"ab") is None, "to make space it would have to evict its own parent"
    assert len(cache.find([b"a", b"ab"])) == 2
    cache.check_integrity()


def test_without_blocks_nothing_is_reserved():
    assert PrefixCache(0).reserve(b"a", None) is None


class CacheMachine(RuleBasedStateMachine):
    """Content by place, as the decoder holds it, must be what the key says."""

    @initialize(blocks=st.integers(0, 6))
    def start(self, blocks: int) -> None:
        self.cache = PrefixCache(blocks)
        self.blocks = blocks
        self.content: dict[int, bytes] = {}
        self.coming: list[Block] = []
        self.taken: list[Block] = []

    @rule(prompt=st.lists(st.integers(0, 2), min_size=1, max_size=4))
    def compute_the_next_block(self, prompt: list[int]) -> None:
        keys = block_keys(prompt, 1)
        found = self.cache.find(keys)
        assert [self.content[block.index] for block in found] == keys[: len(found)]
        for block in found:
            self.cache.take(block)
        self.taken += found
        if len(found) < len(keys) and not self.cache.is_coming(keys[len(found)]):
            block = self.cache.reserve(keys[len(found)], keys[len(found) - 1] if found else None)
            if block is not None:
                assert block.index not in {taken.index for taken in self.taken}, "a block to be copied was dropped"
                self.coming.append(block)

    @precondition(lambda self: self.coming)
    @rule(fails=st.booleans())
    def end_a_computation(self, fails: bool) -> None:
        block = self.coming.pop(0)
        if fails:
            self.cache.abandon(block)
        else:
            self.content[block.index] = block.key
            self.cache.fill(block)

    @precondition(lambda self: self.taken)
    @rule(pick=st.integers(0, 100))
    def copy_a_block(self, pick: int) -> None:
        block = self.taken.pop(pick % len(self.taken))
        assert self.content[block.index] == block.key
        self.cache.release(block)

    @invariant()
    def it_is_whole(self) -> None:
        self.cache.check_integrity(between_steps=not self.coming and not self.taken)
        assert len(self.cache) <= self.blocks


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestCacheMachine = CacheMachine.TestCase
