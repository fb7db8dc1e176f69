"""What the streams of events hold."""

from shared.audit.reading import EventFilter, EventReader
from shared.bus.port import Bus
from shared.contracts.events import Event


async def events_of(bus: Bus, **chosen: str) -> list[Event]:
    """The events that match, oldest first."""
    found, _ = await EventReader(bus).newest(EventFilter(**chosen), 10_000)
    return found[::-1]
