"""A quick look at training files while they arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.openai.files.rows_check import CHECKED_LINES, RowsCheck

ROW = b'{"messages": [{"role": "user", "content": "hi \xc3\xa4"}]}\n'
PAIR = b'{"input": {}, "preferred_output": [], "non_preferred_output": []}\n'


def checked(data: bytes, piece: int = 1 << 20) -> RowsCheck:
    check = RowsCheck("rows.jsonl")
    for start in range(0, len(data), piece):
        check.feed(data[start : start + piece])
    check.finish()
    return check


def problem(data: bytes, piece: int = 1 << 20) -> str | None:
    found = checked(data, piece).problem
    return found.message if found else None


def test_conversations_and_pairs_are_distinguished():
    assert (checked(ROW * 3).pairs, checked(ROW * 3).problem) == (False, None)
    assert (checked(PAIR * 3).pairs, checked(PAIR * 3).problem) == (True, None)


def test_a_byte_order_mark_empty_lines_and_a_last_line_without_an_end_are_fine():
    assert problem(b"\xef\xbb\xbf" + ROW + b"\n  \n" + ROW.rstrip()) is None
    assert problem(ROW.replace(b"\n", b"\r\n") * 2) is None


def test_lines_beyond_the_first_are_looked_at_for_utf_8_only():
    assert problem(ROW * CHECKED_LINES + b"no JSON\n") is None
    assert problem(ROW * (CHECKED_LINES - 1) + b"no JSON\n") is not None
    cut = problem(ROW * 500 + b"\xc3")
    assert cut is not None
    assert cut.startswith("rows.jsonl, line 501: not UTF-8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "rows.jsonl has no rows"),
        (b"\n\n", "rows.jsonl has no rows"),
        (ROW + b'{"messages": []}\n', "rows.jsonl, line 2: expected an object with messages (for supervised)"),
        (ROW + b'"text"\n', "rows.jsonl, line 2: expected an object"),
        (ROW + PAIR, "rows.jsonl, line 2: a row of another form"),
        (ROW + b"{\n", "rows.jsonl, line 2: not JSON"),
        (ROW + b"\x80\n", "rows.jsonl, line 2: not UTF-8: the byte 0x80"),
        (b"\x1f\x8b\x08\x00", "rows.jsonl, line 1: not UTF-8: the byte 0x8b"),
        (b"[" * 5000 + b"\n", "rows.jsonl, line 1: not JSON"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_what_is_no_row_is_named_with_its_line_however_the_bytes_arrive(data, message, piece):
    found = problem(data, piece)
    assert found is not None
    assert found.startswith(message)


@given(
    st.lists(st.sampled_from([ROW, PAIR, b"\n", b"{}\n", b"\xff", b"\xc3", b"x"]), max_size=12), st.integers(1, 40)
)
def test_the_size_of_the_pieces_never_matters_for_whether_a_file_is_one(parts, piece):
    data = b"".join(parts)
    assert checked(data, piece).longest == max(map(len, data.split(b"\n")))
    assert (problem(data) is None) == (problem(data, piece) is None)


def test_a_line_without_an_end_is_not_kept_in_memory(monkeypatch):
    monkeypatch.setattr("services.gateway.openai.files.rows_check.MAX_LINE", 1000)
    check = RowsCheck("rows.jsonl")
    for _ in range(100):
        check.feed(b" " * 100)
    assert check.problem is not None
    assert "line 1: longer than" in check.problem.message
    assert len(check._line) <= 1100
