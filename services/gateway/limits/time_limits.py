"""How long the server waits for a client."""

from dataclasses import dataclass

from shared.deadlines import BODY_WINDOW_S, HEAD_S, KEEP_ALIVE_S, LINGER_S, SEND_WINDOW_S


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Times in seconds."""

    keep_alive: float = KEEP_ALIVE_S
    head: float = HEAD_S
    body_window: float = BODY_WINDOW_S
    send_window: float = SEND_WINDOW_S
    linger: float = LINGER_S
