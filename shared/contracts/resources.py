"""What is granted of a node."""

from pydantic import Field

from shared.contracts.base import Contract


class Resources(Contract):
    """What a replica or a job is granted, or a node has."""

    memory: int = Field(ge=0)
    """Bytes."""
    threads: int = Field(ge=0)
    gpu_memory: int = Field(default=0, ge=0)
    """Bytes of one GPU's memory."""


Resources.EXAMPLE = Resources(memory=4 << 30, threads=2)
