"""The two shapes every contract is made of."""

from dataclasses import dataclass
from typing import ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A frozen message. Unknown fields are ignored, so an older peer can read a newer one's message.

    Each class declares an `EXAMPLE`; a test round-trips all of them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    EXAMPLE: ClassVar[Self | None] = None

    def encode(self) -> bytes:
        """The message as JSON bytes."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message from JSON bytes; raises `pydantic.ValidationError`."""
        return cls.model_validate_json(data)


Request = TypeVar("Request", bound=Contract)
Response = TypeVar("Response", bound=Contract)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Request, Response]):
    """A request/reply subject with the types of both directions."""

    subject: str
    request: type[Request]
    response: type[Response]

    @property
    def verb(self) -> str:
        """The last word of the subject."""
        return self.subject.rsplit(".", 1)[-1]


class Empty(Contract):
    """Nothing to say."""


Empty.EXAMPLE = Empty()
