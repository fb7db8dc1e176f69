"""Files of each kind give rows with their places, in bounded memory."""

import gzip
import json

import duckdb
import pytest

from devtools.data.export import to_openai, write_openai, write_parquet
from devtools.data.files import TEXT_CHARACTERS
from devtools.data.reader import Reader
from devtools.data.rows import Item, Text, Turn, read_rows, write_rows
from devtools.data.version import import_files
from shared.contracts.replica import ChatMessage
from shared.errors import CorruptFile, InvalidInput, NotFound, UnsupportedFormat


def rows(path, form=None):
    return [row for located in Reader(path, form).read() for row in located.rows]


def texts(path):
    return [row.text for row in rows(path)]


def test_a_row_has_its_file_and_line(jsonl):
    path = jsonl({"text": "a"}, b"", {"text": "b"})
    assert [(located.where, located.rows[0].text) for located in Reader(path).read()] == [
        ("rows.jsonl:1", "a"),
        ("rows.jsonl:3", "b"),
    ]


def test_compressed_lines_and_a_mark_of_byte_order_are_read(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}'))
    assert texts(path) == ["a", "b"]


@pytest.mark.parametrize("content", [[{"text": "a"}, {"text": "b"}], {"data": [{"text": "a"}, {"text": "b"}]}])
def test_a_list_in_json_is_read(tmp_path, content):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content))
    assert texts(path) == ["a", "b"]


def test_a_csv_keeps_texts_as_they_are(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('instruction,input,output\n"[say] it",,007\n"two\nlines",x,"yes, well"\n')
    first, second = rows(path)
    assert (first.messages[0].content, first.answer.content) == ("[say] it", "007")
    assert (second.messages[0].content, second.answer.content) == ("two\nlines\n\nx", "yes, well")


def test_a_column_of_a_table_may_hold_messages_as_json(tmp_path, chat):
    path = tmp_path / "rows.csv"
    cell = json.dumps(chat("Hi", "Hello")["messages"]).replace('"', '""')
    path.write_text(f'messages\n"{cell}"\n')
    assert rows(path)[0].answer.content == "Hello"


def test_nested_columns_of_parquet_are_read(tmp_path):
    path = tmp_path / "rows.parquet"
    duckdb.sql(
        "SELECT [{'role': 'user', 'content': 'Hi', 'name': NULL}, {'role': 'assistant', 'content': 'Hello',"
        " 'name': NULL}] AS messages"
    ).write_parquet(str(path))
    assert rows(path) == [
        Turn(
            messages=(ChatMessage(role="user", content="Hi"),), answer=ChatMessage(role="assistant", content="Hello")
        )
    ]


def test_a_long_text_is_cut_at_empty_lines(tmp_path):
    path = tmp_path / "book.md"
    paragraph = "word " * 500 + "\n\n"
    path.write_text(paragraph * 10)
    found = rows(path)
    assert len(found) > 1
    assert all(len(row.text) < TEXT_CHARACTERS + len(paragraph) for row in found)
    assert "".join(row.text for row in found).split() == (paragraph * 10).split()
    assert {row.group for row in found} == {"book.md"}


def test_keys_that_are_not_read_are_counted(jsonl):
    reader = Reader(jsonl({"text": "a", "score": 1}, {"text": "b", "score": 2, "id": "x"}))
    list(reader.read())
    assert reader.ignored == {"score": 2}


@pytest.mark.parametrize(
    ("name", "content", "error", "named"),
    [
        ("x.pdf", b"", UnsupportedFormat, "x.pdf"),
        ("x.json", b'{"text": "a"}\n{"text": "b"}', CorruptFile, "name it .jsonl"),
        ("x.parquet", b"nothing", CorruptFile, "x.parquet"),
        ("x.jsonl", b'{"a": 1}\n', UnsupportedFormat, "x.jsonl:1: no known form"),
        ("x.jsonl.gz", b"nothing", CorruptFile, "x.jsonl.gz"),
        ("x.jsonl", b"", InvalidInput, "there is no row"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path, name, content, error, named):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=named):
        import_files([path], tmp_path / "version")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"gone\.jsonl"):
        import_files([tmp_path / "gone.jsonl"], tmp_path / "version")


def test_two_kinds_of_rows_are_not_mixed(jsonl, tmp_path, chat):
    files = [jsonl({"text": "a"}, name="a.jsonl"), jsonl(chat("q", "a"), name="b.jsonl")]
    with pytest.raises(InvalidInput, match=r"b\.jsonl:1: gives turns, and the rows before it are text"):
        import_files(files, tmp_path / "version")


def test_an_import_names_the_first_broken_lines_or_leaves_them_out(jsonl, tmp_path, chat):
    path = jsonl(chat("q", "a"), b'{"messages": [', chat("q", ""))
    with pytest.raises(CorruptFile) as raised:
        import_files([path], tmp_path / "one")
    assert "rows.jsonl:2: not JSON" in raised.value.message
    assert "rows.jsonl:3: messages[1].content: the answer is empty" in raised.value.message
    done = import_files([path], tmp_path / "two", skip_broken=True)
    assert done.manifest.row_count == 1
    assert [defect.where for defect in done.skipped] == ["rows.jsonl:2", "rows.jsonl:3"]
    assert [(finding.kind, finding.examples) for finding in done.manifest.findings] == [
        ("empty_answer", ("rows.jsonl:3",)),
        ("not_json", ("rows.jsonl:2",)),
    ]


def test_an_import_describes_what_it_read(jsonl, tmp_path, chat):
    path = jsonl(chat("a", "b", "c", "d"), chat("e", "f", split="validation"))
    manifest = import_files([path], tmp_path / "version", license="MIT").manifest
    assert manifest.rows == "turns"
    assert manifest.splits == {"train": 2, "validation": 1}
    assert [(source.name, source.format, source.rows) for source in manifest.sources] == [
        ("rows.jsonl", "openai-chat", 3)
    ]
    first, second = read_rows(tmp_path / "version" / "train-00000.jsonl")
    assert first.group == second.group != ""
    assert manifest == import_files([path], tmp_path / "again", license="MIT").manifest


def test_the_group_of_a_row_is_no_part_of_its_id():
    assert Text(text="a", group="x").id == Text(text="a").id != Text(text="b").id


def test_exported_rows_are_read_again_as_they_were(tmp_path, jsonl, chat):
    item = {"prompt": "1 + 1?", "choices": ["1", "2"], "answer": 1, "references": ["x"], "labels": {"a": "b"}}
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}
    for value, kind in (
        (chat("a", "b", "c", "d"), "turns"),
        (pair, "pairs"),
        (item, "evaluation"),
        ({"text": "[1]"}, "text"),
    ):
        made = rows(jsonl(value))
        write_rows(tmp_path / "shard.jsonl", made)
        write_openai(tmp_path / "openai.jsonl", made)
        write_parquet(tmp_path / "out.parquet", [tmp_path / "shard.jsonl"], kind)
        for name in ("shard.jsonl", "openai.jsonl", "out.parquet"):
            assert [row.canonical() for row in rows(tmp_path / name)] == [row.canonical() for row in made], name


def test_an_item_without_a_prompt_is_exported_whole():
    item = Item(choices=("a", "b"))
    assert to_openai(item) == {"prompt": "", "choices": ["a", "b"], "references": []}
