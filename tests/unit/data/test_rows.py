"""The canonical rows and their ids."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devtools.data.rows import Pair, Text, Turn, parse_row, read_rows, rows_digest, write_rows
from shared.contracts.replica import ChatMessage, Tool
from shared.errors import CorruptFile, NotFound

USER = ChatMessage(role="user", content="Where is my parcel?")
REPLY = ChatMessage(role="assistant", content="SHIP-7")
ROWS = [
    Text(text="A text. Ünïcödé 你好"),
    Turn(messages=(USER,), answer=REPLY),
    Turn(messages=(USER,), answer=REPLY, tools=(Tool(name="weather"),)),
    Pair(messages=(USER,), chosen=REPLY, rejected=ChatMessage(role="assistant", content="no idea")),
]


def test_rows_survive_a_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_rows(path, ROWS) == 4
    assert list(read_rows(path)) == ROWS


def test_an_id_names_the_content_and_not_its_spelling():
    row = ROWS[1]
    spelt = {"answer": {"content": "SHIP-7", "role": "assistant", "tool_calls": []}, "kind": "turn", "tools": [],
             "messages": [{"content": USER.content, "role": "user"}]}  # fmt: skip
    assert parse_row(json.dumps(spelt, indent=1), "here").id == row.id
    assert len({row.id for row in ROWS}) == len(ROWS)


def test_ids_stay_as_they_are():
    """Datasets, runs and lineage name rows by their ids."""
    assert Text(text="abc").id == "5d42cb0bf75af85768318555d7536d7f"


@given(st.text())
def test_any_text_survives(text):
    row = Text(text=text)
    assert parse_row(row.canonical(), "here") == row


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "turn", "messages": [], "answer": {"role": "assistant"}}', "messages"),
        ('{"kind": "tern"}', "'text', 'turn', 'pair'"),
        ('{"text": "no kind"}', "kind"),
        ('{"kind": "text", "txt": "a"}', "text"),
        ('{"kind": "text", "text": "a", "extra": 1}', "extra"),
        ('{"kind": "turn", "messages": [{"role": "usr"}], "answer": {"role": "assistant"}}', "role"),
        ('{"kind": "turn", "messages": [{"role": "user"}], "answer": {"role": "user"}}', "expected 'assistant'"),
        ('{"kind": "text", ', "Invalid JSON"),
        (b'{"kind": "text", "text": "\xff"}', "Invalid JSON"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_field(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"kind": "text", "text": "fine"}\n\n' + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(CorruptFile, match=r"^rows.jsonl, line 3: ") as caught:
        list(read_rows(path))
    assert message in caught.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"absent.jsonl can't be read"):
        list(read_rows(tmp_path / "absent.jsonl"))


def test_a_digest_names_rows_in_their_order():
    assert rows_digest(["a", "b"]) != rows_digest(["b", "a"])
    assert rows_digest(["a", "b"]) == rows_digest(iter(["a", "b"]))
