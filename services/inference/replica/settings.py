"""A replica's environment, which the node agent sets."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

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
    store_url: str
    """Where model files are kept: `file:///a/folder` or `s3://bucket?endpoint=http://host:9000`."""
    cache_dir: Path
    """The node's cache of model files; its replicas share it."""
    cache_limit: int | None = Field(default=None, gt=0)
    """Bytes of blobs that the cache may hold. Default: no limit."""
    s3_access_key: str | None = None
    """Access key of an S3 store; not needed for a folder."""
    s3_secret_key: SecretStr | None = None
    """Secret key of an S3 store; not needed for a folder."""

    @model_validator(mode="after")
    def _named_by_assignment(self) -> Self:
        object.__setattr__(self, "instance", self.assignment.id)  # frozen from here on
        return self
