"""SQL reads the rows of a version, and can do nothing else."""

import pytest

from devtools.data.query import query
from devtools.data.version import import_files
from shared.errors import InvalidInput


@pytest.fixture
def ask(jsonl, chat, tmp_path):
    folder = tmp_path / "it's here"
    path = jsonl(chat("a", "b"), chat("c", "d", split="validation"), chat("e", "f"))
    files = [file.path for file in import_files([path], folder).manifest.files]
    return lambda sql, **more: query(folder, files, sql, **more)


def test_fields_and_splits_are_columns(ask):
    found = ask(
        "select split, count(*) as n, max(answer->>'content') as last from rows group by split order by split"
    )
    assert found.columns == ["split", "n", "last"]
    assert found.rows == [("train", 2, "f"), ("validation", 1, "d")]
    assert len(ask("select * from rows", limit=2).rows) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "drop view rows",
        "copy rows to 'out.csv'",
        "install httpfs",
        "load httpfs",
        "attach 'x.db'",
        "set memory_limit = '9GB'",
        "pragma database_list",
        "select 1; select 2",
        "",
    ],
)
def test_only_a_select_is_run(ask, sql):
    with pytest.raises(InvalidInput, match="one SELECT"):
        ask(sql)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("select * from read_text('/etc/hostname')", "/etc/hostname"),
        ("select * from read_csv('http://127.0.0.1:1/x.csv')", "can't be run"),
        ("select * from '/etc/passwd'", "can't be run"),
        ("select nothing from rows", "nothing"),
        ("select from", "can't be run"),
    ],
)
def test_other_files_and_mistakes_are_refused_in_one_line(ask, sql, named):
    with pytest.raises(InvalidInput) as raised:
        ask(sql)
    assert named in raised.value.message
    assert "\n" not in raised.value.message
