"""The line under an answer: tokens by the usage, the rate from the first token on."""

import pytest

from llmos.cli.stream import Speed
from llmos.client import ChatDelta


def spoken(*pieces: tuple[float, int, str], total: int | None) -> str:
    """The line for pieces of (seconds, tokens, text), asked for at 10."""
    speed = Speed(10.0)
    for seconds, tokens, text in pieces:
        speed.add(ChatDelta(text, "", tokens=tokens), 10.0 + seconds)
    if total is not None:
        speed.add(ChatDelta("", "", {"completion_tokens": total}), 10.0 + pieces[-1][0] + 5 if pieces else 15.0)
    return str(speed)


@pytest.mark.parametrize(
    ("pieces", "total", "line"),
    [
        ([(0.5, 1, "a"), (1.0, 1, "b"), (1.5, 1, "c")], 3, "3 tokens · 2.0 tokens/s · first after 0.50 s"),
        # An accepted draft: five tokens in one step.
        ([(0.5, 1, "a"), (1.5, 5, "bcdef")], 6, "6 tokens · 5.0 tokens/s · first after 0.50 s"),
        # All came at once: no time to divide by.
        ([(0.5, 8, "at once")], 8, "8 tokens · first after 0.50 s"),
        ([(0.5, 4, "in one "), (0.5001, 4, "packet")], 8, "8 tokens · first after 0.50 s"),
        ([(0.5, 1, "a")], 1, "1 token · first after 0.50 s"),
        # A reader that was late finds the first tokens together.
        ([(0.5, 1, "a"), (0.5002, 1, "b"), (1.5, 4, "cdef")], 6, "6 tokens · 4.0 tokens/s · first after 0.50 s"),
        # The text of the first token is held back; it counts from when it was generated.
        ([(0.5, 1, ""), (1.5, 1, "é")], 2, "2 tokens · 1.0 tokens/s · first after 0.50 s"),
        ([], 0, "0 tokens"),
        # Time after the last token, such as the end of the stream, is not the model's.
        ([(1.0, 2, "ab"), (2.0, 2, "cd")], 4, "4 tokens · 2.0 tokens/s · first after 1.00 s"),
    ],
)
def test_the_rate_is_of_the_tokens_after_the_first_in_the_time_after_the_first(pieces, total, line):
    assert spoken(*pieces, total=total) == line
