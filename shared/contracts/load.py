"""How busy a replica is: what gateways route by and `/metrics` shows.

Each field is one metric `llmos_replica_<field>`; its docstring is the metric's help. To add one, add the field here
and set it where it is measured.
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from shared.contracts.base import Contract
from shared.contracts.manifest import Name


@dataclass(slots=True)
class EngineCounters:
    """Numbers that only go up, from 0 at the replica's start; the engine counts in them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(use_attribute_docstrings=True)

    steps: int = 0
    """Steps that advanced a sequence."""
    generated_tokens: int = 0
    """Tokens generated."""
    prompt_tokens: int = 0
    """Prompt tokens computed."""
    rejected: int = 0
    """Requests rejected because the queue was at its bound."""
    cancelled: int = 0
    """Requests cancelled."""
    preemptions: int = 0
    """Sequences that gave their slot to another tenant; they continue later."""
    cached_tokens: int = 0
    """Prompt tokens copied from the prefix cache."""
    looked_up_tokens: int = 0
    """Prompt tokens looked up in the prefix cache."""
    draft_tokens: int = 0
    """Draft tokens computed."""
    accepted_tokens: int = 0
    """Draft tokens accepted; they count as generated, too."""


class EngineLoad(Contract):
    """A moment's view. An encoder's text counts as a sequence, its batch as a step."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    running: int
    """Sequences in slots."""
    waiting: int
    """Sequences in the queue."""
    queued_tokens: int
    """Prompt tokens not yet computed, running and waiting."""
    free_slots: int
    """Slots without a sequence."""
    slots: int
    """Sequences that run at once."""
    max_len: int
    """Tokens of prompt and answer together that a sequence may have."""
    draining: bool = False
    """1 while no new request is taken."""
    max_batch: int = 0
    """Largest number of sequences that one step has advanced."""
    mean_batch: float = 0.0
    """Sequences per step, mean since the last report; 0 without a step."""
    cached_blocks: int = 0
    """Blocks that the prefix cache holds."""
    cache_blocks: int = 0
    """Blocks that the prefix cache holds at most."""
    stalled_s: float = 0.0
    """Seconds that the engine has had work and has completed no step, once that is too long; else 0."""
    wait_s: float = 0.0
    """Seconds that a request of a tenant with nothing in the queue would probably wait."""
    counters: EngineCounters = EngineCounters()


class LoadReport(Contract):
    """A replica and its load; published on `load_subject(replica_id)`."""

    replica_id: Name
    deployment: Name
    model: Name
    version: int
    load: EngineLoad


def load_subject(replica_id: str) -> str:
    """Where a replica publishes its `LoadReport`; `>` matches all (a dot in an id makes a token)."""
    return f"llmos.v1.load.{replica_id}"


EngineLoad.EXAMPLE = EngineLoad(
    running=3,
    waiting=0,
    queued_tokens=0,
    free_slots=13,
    slots=16,
    max_len=4096,
    counters=EngineCounters(steps=20, generated_tokens=60, prompt_tokens=111),
)
LoadReport.EXAMPLE = LoadReport(
    replica_id="smollm2-1-x7k2", deployment="smollm2", model="smollm2", version=1, load=EngineLoad.EXAMPLE
)
