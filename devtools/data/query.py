"""SQL over the rows of a version: reading, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.data.export import quoted, read_shard
from devtools.data.libraries import load
from devtools.data.write import split_of
from shared.errors import InvalidInput

_MEMORY = "384MB"


@dataclass(frozen=True, slots=True)
class Result:
    """A table: names of columns, and rows."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


def check_sql(sql: str) -> Any:
    """The parsed SELECT; raises InvalidInput if it is none, or several."""
    duckdb = load("duckdb")
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise InvalidInput(f"the query can't be run: {_first_lines(error)}", param="sql") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InvalidInput("expected one SELECT; a query reads rows and changes nothing", param="sql")
    return statements[0]


def query(folder: Path, files: Sequence[str], sql: str, *, limit: int = 10_000) -> Result:
    """The result of a SELECT over the view `rows`: the fields of rows and `split`.

    DuckDB may read the files of the version and write to a temporary folder beside them; it loads no extension and
    opens no other file.

    Args:
        folder: With the files.
        files: Shards of the version.
        sql: One SELECT.
        limit: Rows that are returned at most.

    Raises:
        InvalidInput: No SELECT, an error in it, or a use of something that is not allowed.
    """
    duckdb = load("duckdb")
    statement = check_sql(sql)
    spill = folder / ".spill"
    config = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": _MEMORY,
        "threads": 2,
        "temp_directory": str(spill),
    }
    with duckdb.connect(config=config) as base:
        selects = " UNION ALL BY NAME ".join(_select(folder / file) for file in files)
        base.execute(f"CREATE VIEW rows AS {selects}")
        base.execute(f"SET allowed_directories = ['{quoted(folder)}']")
        base.execute("SET enable_external_access = false; SET lock_configuration = true")
        try:
            found = base.execute(statement)
            return Result([column[0] for column in found.description], found.fetchmany(limit))
        except duckdb.Error as error:
            raise InvalidInput(f"the query can't be run: {_first_lines(error)}", param="sql") from None


def _select(path: Path) -> str:
    split = quoted(split_of(path.name))
    return f"SELECT *, '{split}' AS split FROM {read_shard(path)}"  # noqa: S608  # quoted


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
