"""Thoughts and text, however an answer is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.dialects.thinking import ThinkingSplitter
from shared.contracts.replica import Thinking


def split(thinking: Thinking, *pieces: str) -> tuple[str, str]:
    splitter = ThinkingSplitter(thinking)
    parts = [part for piece in pieces for part in splitter.push(piece)] + splitter.finish()
    assert all(part.text for part in parts)
    return tuple("".join(part.text for part in parts if part.is_thought is kind) for kind in (True, False))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("thinking", "answer", "thought", "text"),
    [
        ("none", "<think>a</think>b", "", "<think>a</think>b"),
        ("may", "<think>\na\n\nb </think>\n\nc <think>d</think> \n", "a\n\nb", "c <think>d</think> \n"),
        ("may", " \n<think>a</think>", "a", ""),
        ("may", "  no thoughts", "", "  no thoughts"),
        ("may", " <thin", "", " <thin"),
        ("may", "<think>cut \n", "cut", ""),
        ("may", "<think></think> b", "", "b"),
        ("may", "", "", ""),
        ("open", "\na</thin</think>b", "a</thin", "b"),
        ("open", "a </thi", "a </thi", ""),
        ("open", "</think>\n\nb", "", "b"),
    ],
)
def test_an_answer_is_split_the_same_whatever_its_pieces(
    thinking: Thinking, answer: str, thought: str, text: str
) -> None:
    assert split(thinking, answer) == (thought, text)
    assert split(thinking, *answer) == (thought, text)
    for size in (2, 3, 5):
        assert split(thinking, *(answer[at : at + size] for at in range(0, len(answer), size))) == (thought, text)


@given(
    st.sampled_from(["none", "may", "open"]),
    st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", " ", "\n", "a"]), max_size=12),
)
def test_pieces_do_not_matter(thinking: Thinking, pieces: list[str]) -> None:
    answer = "".join(pieces)
    assert split(thinking, *pieces) == split(thinking, answer) == split(thinking, *answer)
