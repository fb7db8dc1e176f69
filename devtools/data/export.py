"""Rows out of a version, in forms that others read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from devtools.data.libraries import load
from devtools.data.rows import Item, Pair, Row, Text, Turn
from shared.contracts.dataset import Rows
from shared.contracts.replica import ChatMessage, Tool

FORMATS = ("rows", "openai", "parquet")


def to_openai(row: Row) -> dict[str, Any]:
    """The row in OpenAI's form: chat, or preference; texts and items as they are read again.

    The earlier answers of a turn have the weight 0, so the row that is read again is the same.
    """
    match row:
        case Turn():
            earlier = [
                _message(message) | ({"weight": 0} if message.role == "assistant" else {}) for message in row.messages
            ]
            found: dict[str, Any] = {"messages": [*earlier, _message(row.answer)]}
        case Pair():
            found = {
                "input": {"messages": [_message(message) for message in row.messages]},
                "preferred_output": [_message(row.chosen)],
                "non_preferred_output": [_message(row.rejected)],
            }
        case Text():
            found = {"text": row.text}
        case Item():
            found = {
                **({"messages": [_message(message) for message in row.messages]} if row.messages else {}),
                **({} if row.messages else {"prompt": row.prompt}),
                **({"choices": list(row.choices)} if row.choices else {}),
                **({"answer": row.answer} if row.answer is not None else {}),
                "references": list(row.references),
                **({"scorer": row.scorer} if row.scorer else {}),
                **({"labels": row.labels} if row.labels else {}),
            }
    if not isinstance(row, Text) and row.tools:
        place = found["input"] if isinstance(row, Pair) else found
        place["tools"] = [_tool(tool) for tool in row.tools]
    return found | ({"group": row.group} if row.group else {})


def write_openai(path: Path, rows: Iterable[Row]) -> int:
    """Write JSON Lines in OpenAI's forms; returns how many there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(to_openai(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def write_parquet(path: Path, shards: Iterable[Path], kind: Rows) -> None:
    """Write the rows of shards to one Parquet file; nested fields are JSON texts."""
    duckdb = load("duckdb")
    config = {"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 1}
    with duckdb.connect(config=config) as base:
        listed = ", ".join(f'CAST("{name}" AS VARCHAR) AS "{name}"' for name in ("kind", *COLUMNS[kind], "group"))
        selects = " UNION ALL ".join(f"SELECT {listed} FROM {read_shard(shard)}" for shard in shards)  # noqa: S608
        base.execute(f"COPY ({selects}) TO '{quoted(path)}' (FORMAT parquet)")


COLUMNS: Mapping[Rows, tuple[str, ...]] = {
    "text": ("text",),
    "turns": ("messages", "answer", "tools"),
    "pairs": ("messages", "chosen", "rejected", "tools"),
    "evaluation": ("messages", "prompt", "tools", "choices", "answer", "references", "scorer", "labels"),
}
"""Fields of rows, beside `kind` and `group`."""
_TEXTS = ("kind", "text", "group", "prompt", "scorer")


def read_shard(path: Path) -> str:
    """DuckDB's table function that reads a shard, with every field that a row may have."""
    names = dict.fromkeys(("kind", *(name for names in COLUMNS.values() for name in names), "group"))
    columns = ", ".join(f"'{name}': '{'VARCHAR' if name in _TEXTS else 'JSON'}'" for name in names)
    return f"read_json('{quoted(path)}', format = 'newline_delimited', columns = {{{columns}}})"


def quoted(text: object) -> str:
    """For a text in SQL."""
    return str(text).replace("'", "''")


def _message(message: ChatMessage) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        found["name"] = message.name
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    return found


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": json.loads(tool.parameters)}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}
