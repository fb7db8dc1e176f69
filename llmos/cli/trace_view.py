"""OTLP JSON to a tree of spans for the terminal."""

from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from llmos.cli.output import printable
from shared.telemetry import genai

SHOWN = (
    genai.USAGE_INPUT_TOKENS,
    genai.USAGE_OUTPUT_TOKENS,
    genai.RESPONSE_FINISH_REASONS,
    genai.REPLICA,
    genai.HTTP_STATUS,
    genai.ERROR_MESSAGE,
)
EVENT_SHOWN = (genai.REPLICA, "reason")


@dataclass(slots=True)
class Span:
    """A span with its children, in the order in which they began."""

    id: str
    parent: str
    name: str
    service: str
    start: int
    """Nanoseconds since the epoch."""
    end: int
    error: bool
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Name and attributes of what happened during it."""
    children: list["Span"] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e6


def spans(document: dict[str, Any]) -> list[Span]:
    """All spans of an OTLP JSON document, oldest first."""
    found = []
    for resource in document.get("resourceSpans", []):
        service = attributes(resource.get("resource", {})).get("service.name", "?")
        for scope in resource.get("scopeSpans", []):
            found += [
                Span(
                    id=item["spanId"],
                    parent=item.get("parentSpanId", ""),
                    name=item["name"],
                    service=service,
                    start=int(item["startTimeUnixNano"]),
                    end=int(item["endTimeUnixNano"]),
                    error=item.get("status", {}).get("code") in {2, "STATUS_CODE_ERROR"},
                    attributes=attributes(item),
                    events=[(event["name"], attributes(event)) for event in item.get("events", [])],
                )
                for item in scope.get("spans", [])
            ]
    return sorted(found, key=lambda span: span.start)


def roots(found: list[Span]) -> list[Span]:
    """The spans without a parent in this document, each with its children hung under it."""
    by_id = {span.id: span for span in found}
    for span in found:
        if span.parent in by_id:
            by_id[span.parent].children.append(span)
    return [span for span in found if span.parent not in by_id]


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    """OTLP key/value pairs as a dictionary."""
    return {pair["key"]: _value(pair.get("value", {})) for pair in item.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])  # OTLP JSON writes 64-bit integers as strings
    if "arrayValue" in value:
        return [_value(part) for part in value["arrayValue"].get("values", [])]
    return next(iter(value.values()), None)


def tree(document: dict[str, Any], trace_id: str) -> Tree:
    """The trace as a tree: name, duration, service, the most useful attributes, and events such as a lost replica.

    A duration is by the clock of one machine. Children are in the order of their starts, by the clocks of theirs.
    """
    top = Tree(Text(printable(f"trace {trace_id}"), style="bold"))
    for root in roots(spans(document)):
        _hang(root, top)
    return top


def _hang(span: Span, tree: Tree) -> None:
    line = Text(printable(span.name), style="red" if span.error else "bold")
    line.append(f"  {span.milliseconds:.1f} ms", style="cyan")
    line.append(printable(f"  {span.service}"), style="dim")
    _append(line, span.attributes, SHOWN)
    branch = tree.add(line)
    for name, found in span.events:
        event = Text(printable(name), style="yellow")
        _append(event, found, EVENT_SHOWN)
        branch.add(event)
    for child in span.children:
        _hang(child, branch)


def _append(line: Text, found: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name in found:
            value = found[name]
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            line.append(printable(f"  {name.rsplit('.', 1)[-1]}={shown}"), style="green")
