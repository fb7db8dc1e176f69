"""From an answer back to the rows: the versions that a trace names, and what they were made from, as a tree."""

from typing import Any

from rich.text import Text
from rich.tree import Tree

from llmos.cli.output import printable
from llmos.cli.trace_view import spans
from llmos.client import Client
from llmos.lineage import Names, Origin
from shared.contracts.registry import DatasetVersion, ModelVersion
from shared.errors import NotFound
from shared.telemetry import genai


def served_versions(document: dict[str, Any]) -> list[str]:
    """The versions whose replicas have a span in a trace: `helper:1`."""
    found = {
        f"{span.attributes[genai.MODEL]}:{span.attributes[genai.MODEL_VERSION]}": None
        for span in spans(document)
        if genai.MODEL in span.attributes and genai.MODEL_VERSION in span.attributes
    }
    return list(found)


def add_lineage(client: Client, document: dict[str, Any], top: Tree) -> None:
    """Hang each version that answered under `top`, with the run, the rows and the base that it came from."""
    names = Names(client)
    for reference in served_versions(document):
        try:
            version = client.models.version(reference)
        except NotFound:
            top.add(_line("version", f"{reference}  deleted"))
            continue
        _hang(client, names, version, top.add(_line("version", f"{reference}  {version.digest[:12]}")))


def _hang(client: Client, names: Names, version: ModelVersion, branch: Tree) -> None:
    lineage = version.manifest.lineage
    if lineage.job is None:
        digest = f"  {lineage.source_digest[:12]}" if lineage.source_digest else ""
        branch.add(_line("source", f"{lineage.source}{digest}"))
        return
    recipe = f"  recipe {lineage.recipe[:12]}" if lineage.recipe else ""
    branch.add(_line("run", f"{lineage.job}{recipe}  {lineage.code}"))
    for origin in names.datasets(lineage):
        branch.add(_line("data", f"{origin}{_rows(client, origin)}"))
    for role, found in (("teacher", names.teacher(lineage)), ("base", names.base(lineage))):
        if found is None:
            continue
        below = branch.add(_line(role, str(found)))
        if found.reference is not None:
            _hang(client, names, client.models.version(found.reference), below)


def _rows(client: Client, origin: Origin) -> str:
    if origin.reference is None:
        return ""
    version: DatasetVersion = client.datasets.version(origin.reference)
    sources = ", ".join(source.name for source in version.manifest.sources)
    return f"  {version.manifest.row_count} {version.manifest.rows}{f' from {sources}' if sources else ''}"


def _line(role: str, text: str) -> Text:
    return Text.assemble((role, "bold"), "  ", printable(text))
