"""Suites: datasets of kind `evaluation`, with the items that are chosen of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devtools.data.rows import Item, read_rows
from devtools.evaluate.scorers.catalogue import scorer_of
from devtools.evaluate.scorers.scorer import Scorer
from shared.contracts.dataset import DatasetManifest
from shared.contracts.manifest import Digest
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Suite:
    """A version of a suite, with some of its items or all.

    total: items that the version has
    """

    reference: str
    digest: Digest
    items: tuple[Item, ...]
    total: int

    @property
    def scorers(self) -> dict[str, Scorer]:
        """By name, those that its items use; raises InvalidInput for an item that can't be scored."""
        found: dict[str, Scorer] = {}
        for number, item in enumerate(self.items, start=1):
            scorer = scorer_of(item, f"{self.reference}, item {number} of {len(self.items)} ({item.id[:12]})")
            found.setdefault(scorer.name, scorer)
        return found


def read_suite(
    reference: str, digest: Digest, manifest: DatasetManifest, folder: Path, *, n: int | None = None
) -> Suite:
    """The suite whose files are in `folder`.

    Raises:
        InvalidInput: It is no suite, or an item can't be scored.
        CorruptFile: A file has something else than rows.
    """
    if manifest.rows != "evaluation":
        raise InvalidInput(
            f"{reference} has {manifest.rows}, no evaluation items; import a suite with 'llmos data import FILE --as"
            " evaluation' or 'llmos suite import'",
            param="suite",
        )
    rows = (row for file in manifest.files for row in read_rows(folder / file.path))
    items = tuple({row.id: row for row in rows if isinstance(row, Item)}.values())
    suite = Suite(reference, digest, chosen(items, n), len(items))
    _ = suite.scorers
    return suite


def chosen(items: Sequence[Item], n: int | None) -> tuple[Item, ...]:
    """`n` of the items, in their order: those with the lowest ids.

    Ids are digests, so the choice is as good as random, and the same for each version that is evaluated.
    """
    if n is None or n >= len(items):
        return tuple(items)
    lowest = set(sorted(item.id for item in items)[:n])
    return tuple(item for item in items if item.id in lowest)


def check_suites(suites: Iterable[Suite]) -> None:
    """Raise InvalidInput for no items, or a suite that is named twice."""
    references = [suite.reference for suite in suites]
    if len(set(references)) != len(references):
        raise InvalidInput("a suite is named twice", param="suite")
    if not references:
        raise InvalidInput("name at least one suite: --suite NAME", param="suite")
