"""What OpenAI's fine-tuning API was asked for: kept beside the job that does it, and answered as it was given."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.contracts.base import Contract
from shared.contracts.file import FileId

Auto = Literal["auto"]
"""LLMOS chooses: the recipe's default."""
MAX_METADATA = 16
MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class Hyperparameters(Contract):
    """OpenAI's names for keys of a recipe."""

    n_epochs: Auto | int = "auto"
    batch_size: Auto | int = "auto"
    learning_rate_multiplier: Auto | float = "auto"
    beta: Auto | float | None = None
    """Of method dpo only."""


class FineTuning(Contract):
    """A request to make a fine-tuning job."""

    model: str
    """As it was named."""
    training_file: FileId
    validation_file: FileId | None = None
    method: Literal["supervised", "dpo"] = "supervised"
    hyperparameters: Hyperparameters = Hyperparameters()
    suffix: str | None = None
    seed: int
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=MAX_METADATA)


Hyperparameters.EXAMPLE = Hyperparameters(n_epochs=3, learning_rate_multiplier=1.0)
FineTuning.EXAMPLE = FineTuning(
    model="smollm2",
    training_file="file-3f2a77b11c1e4a1c9c510a4c",
    hyperparameters=Hyperparameters.EXAMPLE,
    suffix="helper",
    seed=42,
)
