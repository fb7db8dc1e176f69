"""Detects an engine that has stalled: it has work, and completes no step. Pure: times are arguments.

How long is too long depends on the step. A step that computes 64 tokens of a prompt may last many times as long as
one that decodes, and a large model on a slow machine takes seconds for what a small one does in milliseconds. So like
is compared with like: the steps before tell what a step without prompt tokens takes and what a prompt token takes,
and a step may last `FACTOR` times what its own tokens would take.
"""

from collections import deque
from statistics import median

from shared.deadlines import LOAD_REPORT_S, STALL_S, STALL_UNMEASURED_S

FACTOR = 20
"""Times the expected duration that a step may last. Steps of one kind differ by less: in the length of their
contexts, in their number of rows, and in what else the machine does."""
LOOK_S = 2 * LOAD_REPORT_S
"""What counts at most of the time between two looks. Longer ones show that the process itself was paused or starved,
and an engine can't compute then."""
_MEASURED = 64
"""Steps of each kind that the medians are of."""


def stall_limit(expected_s: float | None) -> float:
    """Seconds that a step may last; `expected_s` is None before any step was measured, which may be slow for once."""
    return STALL_UNMEASURED_S if expected_s is None else max(STALL_S, FACTOR * expected_s)


class StepTimes:
    """What the last steps took. Medians, so that one slow step changes nothing."""

    def __init__(self) -> None:
        self._decode: deque[float] = deque(maxlen=_MEASURED)
        """Seconds of steps without prompt tokens."""
        self._prefill: deque[tuple[float, float]] = deque(maxlen=_MEASURED)
        """Seconds of steps with prompt tokens: of the whole step, and for each prompt token."""

    def add(self, seconds: float, prompt_tokens: int) -> None:
        """A step took `seconds` and computed so many tokens of prompts."""
        if prompt_tokens:
            self._prefill.append((seconds, seconds / prompt_tokens))
        else:
            self._decode.append(seconds)

    def expected(self, prompt_tokens: int) -> float | None:
        """Seconds that a step probably takes; None before the first measurement.

        A step reads all weights, however few its tokens are: without a step that only decoded, one with a prompt
        tells what that takes at most.
        """
        whole = self._decode or [seconds for seconds, _ in self._prefill]
        if not whole:
            return None
        expected = median(whole)
        if prompt_tokens and self._prefill:
            expected += prompt_tokens * median(each for _, each in self._prefill)
        return expected


class StallDetector:
    """Follows the steps of one thread. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self.stalled = False
        """Whether the last look found a stall, and no step has ended since."""
        self._times = StepTimes()
        self._prompt_tokens = 0
        """Of the step that runs, or ran last."""
        self._begun = 0.0
        self._ended = False
        """Whether a step has ended since the last look."""
        self._looked_at: float | None = None
        self._waited = 0.0
        """Seconds with work and without the end of a step, as far as they were watched."""

    def begin(self, now: float, *, prompt_tokens: int) -> None:
        """A step begins that computes so many tokens of prompts."""
        self._begun, self._prompt_tokens = now, prompt_tokens

    def end(self, now: float, *, computed: bool = True) -> None:
        """The step has ended; it is a measurement if it `computed` tokens."""
        self._ended, self.stalled = True, False
        if computed:
            self._times.add(now - self._begun, self._prompt_tokens)

    def look(self, now: float, *, working: bool) -> float:
        """Seconds without a step if that is too long, else 0. To be called at least every `LOOK_S` seconds.

        Args:
            now: Seconds, monotonic.
            working: Whether there is work, or a step runs.
        """
        elapsed = 0.0 if self._looked_at is None else min(now - self._looked_at, LOOK_S)
        self._looked_at = now
        self._waited = self._waited + elapsed if working and not self._ended else 0.0
        self._ended = False
        self.stalled = self._waited > stall_limit(self._times.expected(self._prompt_tokens))
        return self._waited if self.stalled else 0.0
