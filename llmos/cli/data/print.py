"""Lines for people. Rows and names are printed as they are: nothing in them is markup."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmos.cli.output import say, size
from shared.contracts.dataset import DatasetManifest, Finding

if TYPE_CHECKING:
    from devtools.data.rows import Row

_SHOWN = 2_000
"""Characters of a text that are printed."""


def line(text: str, style: str = "") -> None:
    """One line, however long; one for each line of a text with several."""
    for part in text.split("\n"):
        say(part, style=style)


def summary(manifest: DatasetManifest) -> str:
    """`1,200 turns, 1.4 MiB`."""
    names = {"text": "texts", "evaluation": "items"}
    return f"{manifest.row_count:,} {names.get(manifest.rows, manifest.rows)}, {size(manifest.size)}"


def print_findings(findings: Iterable[Finding]) -> None:
    """A line for each kind."""
    for finding in findings:
        line(f"  found     {finding.kind}: {finding.count}  {', '.join(finding.examples)}")


def print_row(row: "Row") -> None:
    """A row as a conversation."""
    line(f"{row.kind} {row.id[:16]}", style="dim")
    content = row.model_dump(mode="json", exclude_defaults=True)
    for message in content.get("messages", ()):
        _message(message["role"], message)
    for name in ("text", "prompt", "choices", "references", "scorer", "labels"):
        if content.get(name):
            line(f"  {name}: {_short(content[name])}")
    for name in ("answer", "chosen", "rejected"):
        value = content.get(name)
        if isinstance(value, dict):
            _message("assistant" if name == "answer" else name, value)
        elif value is not None:
            line(f"  {name}: {value}")


def _message(role: str, message: "dict[str, object]") -> None:
    line(f"  {role}: {_short(message.get('content', ''))}")
    if message.get("tool_calls"):
        line(f"  {role} calls: {_short(message['tool_calls'])}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
