"""A version of a dataset: rows in files, where they come from and what was done to them."""

from typing import Literal

from pydantic import Field

from shared.contracts.base import Contract
from shared.contracts.manifest import Digest, FileList, ManifestFile

Rows = Literal["text", "turns", "pairs", "evaluation"]
"""What a row is: a text, a conversation with an answer, a prompt with a better and a worse answer, or an item of an
evaluation suite."""


class Source(Contract):
    """A file that rows were read from."""

    name: str
    """Its name, without the folder."""
    digest: Digest
    """SHA-256 of its bytes."""
    format: str
    """How it was read: `openai-chat`, `sharegpt`, `alpaca`, `prompt-completion`, `preference`, `text`, …"""
    rows: int = Field(ge=0)
    """Rows that it gave."""


class Step(Contract):
    """One step of preparation, as it was run."""

    name: str
    version: int = Field(default=1, ge=1)
    """Of the step's rules: another one may give other rows."""
    parameters: dict[str, str | int | float | bool | tuple[str, ...]] = Field(default_factory=dict)
    rows_in: int = Field(ge=0)
    rows_out: int = Field(ge=0)
    changed: int = Field(default=0, ge=0)
    """Rows that it changed and kept."""
    dropped: tuple[str, ...] = ()
    """Ids of the first rows that it dropped."""


class Finding(Contract):
    """A kind of defect or fact that was found when the rows were checked."""

    kind: str
    """`empty_answer`, `personal_data.email`, `near_duplicate`, …"""
    count: int = Field(ge=1)
    examples: tuple[str, ...] = ()
    """The first places: `chats.jsonl:17`, or the row's id."""


class DatasetManifest(FileList):
    """The JSON that describes a version of a dataset. Immutable; its SHA-256 names the version.

    `files` are shards of rows as JSON Lines, in the order of the rows.
    """

    schema_version: Literal[1] = 1
    rows: Rows
    splits: dict[str, int]
    """Rows of each split, by its name: `train`, `validation`, `test`; of a suite, `items`."""
    parents: tuple[Digest, ...] = ()
    """Manifests of the versions that it was made from."""
    sources: tuple[Source, ...] = ()
    steps: tuple[Step, ...] = ()
    findings: tuple[Finding, ...] = ()
    tokens: dict[str, int] = Field(default_factory=dict)
    """Tokens of all rows, by the digest of the tokenizer's file; empty if none was asked for."""
    license: str | None = None
    statement: str | None = None
    """Who made the rows, when, from what, and with whose consent."""

    @property
    def row_count(self) -> int:
        """Rows of all splits."""
        return sum(self.splits.values())


Source.EXAMPLE = Source(name="chats.jsonl", digest="ab" * 32, format="openai-chat", rows=1200)
Step.EXAMPLE = Step(
    name="near-duplicates", parameters={"threshold": 0.8}, rows_in=1200, rows_out=1117, dropped=("9f2c41d07ab3e5f8",)
)
Finding.EXAMPLE = Finding(kind="empty_answer", count=2, examples=("chats.jsonl:17", "chats.jsonl:304"))
DatasetManifest.EXAMPLE = DatasetManifest(
    files=(ManifestFile(path="train-00000.jsonl", digest="ab" * 32, size=1_048_576),),
    rows="turns",
    splits={"train": 1060, "validation": 57},
    sources=(Source.EXAMPLE,),
    steps=(Step.EXAMPLE,),
    findings=(Finding.EXAMPLE,),
    license="CC-BY-4.0",
)
