"""What the replica and its template worker say to each other: length-prefixed JSON over the worker's pipes."""

import struct
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.errors import ErrorPayload

LENGTH = struct.Struct(">I")
"""Bytes of the JSON that follows."""
CPU_LIMIT_S = 2.0
"""Processor seconds that compiling, and each rendering, may take; the kernel ends the worker then."""
MEMORY_LIMIT = 512 << 20
"""Bytes of address space that the worker may have."""


class Start(BaseModel):
    """First message: the template."""

    model_config = ConfigDict(frozen=True)

    source: str
    bos_token: str = ""
    eos_token: str = ""
    cpu_limit_s: float = CPU_LIMIT_S


class Render(BaseModel):
    """Every further message."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] = ()


class Rendered(BaseModel):
    """The answer to each, in order: to `Start` an empty prompt."""

    model_config = ConfigDict(frozen=True)

    prompt: str = ""
    error: ErrorPayload | None = None


def pack(message: BaseModel) -> bytes:
    """The message with its length in front."""
    data = message.model_dump_json().encode()
    return LENGTH.pack(len(data)) + data
