"""The events of a stream as they are written, each with its number."""

from typing import Any

from services.gateway.http.dialect import OPENAI, json_event
from services.gateway.openai.responses.output import Event
from services.gateway.openai.responses.resource import Resource, fail
from shared.errors import LlmosError


class EventWriter:
    """Writes the events of one stream as server-sent events.

    Args:
        number: Of the next.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number

    def write(self, event: Event) -> bytes:
        """The next event."""
        kind, fields = event
        written = json_event({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return written

    def state(self, resource: Resource) -> bytes:
        """The event of the state that a response is in now."""
        return self.write((f"response.{resource['status']}", {"response": resource}))

    def error(self, error: LlmosError) -> bytes:
        """The event of an error: OpenAI's fields and, as the Open Responses specification has it, an object."""
        about: dict[str, Any] = OPENAI.error(error)["error"]
        flat = {name: about[name] for name in ("code", "message", "param")}
        return self.write(("error", {**flat, "error": about}))

    def failure(self, resource: Resource, error: LlmosError) -> bytes:
        """The last two events of a response that has failed."""
        fail(resource, error)
        return self.error(error) + self.state(resource)
