"""Where a version came from, with names for the digests of its lineage."""

from dataclasses import dataclass

from llmos.client import Client
from shared.contracts.manifest import Kind, Lineage
from shared.contracts.registry import CatalogueRecord


@dataclass(frozen=True, slots=True)
class Origin:
    """What one digest of a lineage means.

    kind: Of what it names.
    digest: Of its manifest.
    reference: `name:3`; None where the version was deleted.
    """

    kind: Kind
    digest: str
    reference: str | None

    def __str__(self) -> str:
        return f"{self.reference or 'deleted'}  {self.digest[:12]}"


class Names:
    """The names of versions by their digests, read once for each kind.

    Args:
        client: Of the gateway.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[Kind, dict[str, str]] = {}

    def origin(self, kind: Kind, digest: str) -> Origin:
        """What `digest` means."""
        if kind not in self._known:
            self._known[kind] = {
                entry.digest: f"{record.name}:{entry.version}"
                for record in self._records(kind)
                for entry in record.versions
            }
        return Origin(kind, digest, self._known[kind].get(digest))

    def _records(self, kind: Kind) -> tuple[CatalogueRecord, ...]:
        if kind is Kind.DATASET:
            return self._client.datasets.list().datasets
        return self._client.models.list().models

    def base(self, lineage: Lineage) -> Origin | None:
        """The version that training started from."""
        return self.origin(Kind.MODEL, lineage.base) if lineage.base else None

    def teacher(self, lineage: Lineage) -> Origin | None:
        """The version that it learnt from."""
        return self.origin(Kind.MODEL, lineage.teacher) if lineage.teacher else None

    def datasets(self, lineage: Lineage) -> list[Origin]:
        """The rows that it was trained on."""
        return [self.origin(Kind.DATASET, digest) for digest in lineage.datasets]


def lineage_lines(client: Client, lineage: Lineage) -> list[tuple[str, str]]:
    """What a version was trained from, as facts with their names; none where it was not trained here."""
    names = Names(client)
    base, teacher = names.base(lineage), names.teacher(lineage)
    facts = [
        ("base", str(base) if base else ""),
        ("teacher", str(teacher) if teacher else ""),
        *(("data", str(one)) for one in names.datasets(lineage)),
        ("recipe", lineage.recipe[:12] if lineage.recipe else ""),
        ("job", lineage.job or ""),
        ("code", lineage.code),
    ]
    return [(name, fact) for name, fact in facts if fact]
