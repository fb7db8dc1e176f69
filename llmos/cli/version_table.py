"""The table of all versions of a kind."""

from collections.abc import Sequence

from llmos.cli.output import print_table, size
from shared.contracts.registry import CatalogueRecord


def print_versions(kind: str, records: Sequence[CatalogueRecord], *, empty: str) -> None:
    """A row for each version of each record; `empty` if there is none."""
    rows = [
        (
            f"{record.name}:{entry.version}",
            ", ".join(f"@{alias}" for alias, version in sorted(record.aliases.items()) if version == entry.version),
            size(entry.size),
            f"{entry.created_at:%Y-%m-%d %H:%M}",
        )
        for record in records
        for entry in record.versions
    ]
    print_table((kind.upper(), "ALIASES", "SIZE", "CREATED"), rows, empty=empty)
