"""A replica's environment, which the node agent sets."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from shared.contracts.manifest import Name
from shared.contracts.scheduler import ReplicaAssignment
from shared.service.settings import ServiceSettings


class Settings(ServiceSettings):
    """A replica's settings. Its instance name is the replica's id."""

    assignment: ReplicaAssignment = Field(validation_alias="LLMOS_REPLICA_ASSIGNMENT")
    """What to serve."""
    restarts: int = Field(default=0, ge=0)
    """How often its node agent started it again."""
    node_id: Name
    """Name of the node."""
    files: Path = Field(validation_alias="LLMOS_REPLICA_FILES")
    """Folder with the files of the version and its manifest. It has no other access to the store."""

    @model_validator(mode="after")
    def _named_by_assignment(self) -> Self:
        object.__setattr__(self, "instance", self.assignment.id)  # frozen from here on
        return self
