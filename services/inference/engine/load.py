"""How busy the engine is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """A moment's view; the fields are those of the contract `LoadReport`."""

    running: int
    """Sequences in slots."""
    waiting: int
    """Sequences in the queue."""
    queued_tokens: int
    """Prompt tokens not yet computed, running and waiting."""
    free_slots: int
    slots: int
    max_len: int
    draining: bool
    steps: int
    """Steps that advanced a sequence."""
    generated_tokens: int
    prompt_tokens: int
    """Tokens computed by prefill."""
    max_batch: int
    """Largest number of sequences that one step has advanced."""
    mean_batch: float
    """Sequences per step, mean since the last view; 0 without a step."""
    rejected: int
    cancelled: int
    cached_tokens: int = 0
    """Prompt tokens copied from the prefix cache."""
    looked_up_tokens: int = 0
    """Prompt tokens that were looked up in the prefix cache."""
    cached_blocks: int = 0
    """Blocks that the prefix cache holds."""
    cache_blocks: int = 0
    """Blocks that it holds at most."""
    draft_tokens: int = 0
    """Tokens computed ahead because they were likely to follow."""
    accepted_tokens: int = 0
    """Those of them that did follow: `generated_tokens` has them as well."""
    wait_s: float = 0.0
    """Seconds that a request of a tenant with nothing in the queue would probably wait."""


@dataclass(slots=True)
class Counters:
    """What the engine has done since it started."""

    steps: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    max_batch: int = 0
    rejected: int = 0
    cancelled: int = 0
    advanced: int = 0
    """Sequences advanced, summed over steps."""
    draft_tokens: int = 0
    accepted_tokens: int = 0
    viewed_steps: int = 0
    viewed_advanced: int = 0

    def count_step(
        self,
        *,
        batch: int,
        prompt_tokens: int,
        generated_tokens: int,
        draft_tokens: int = 0,
        accepted_tokens: int = 0,
    ) -> None:
        """Add one step."""
        self.steps += 1
        self.advanced += batch
        self.max_batch = max(self.max_batch, batch)
        self.prompt_tokens += prompt_tokens
        self.generated_tokens += generated_tokens
        self.draft_tokens += draft_tokens
        self.accepted_tokens += accepted_tokens

    def mean_batch(self) -> float:
        """Sequences per step since the last call."""
        steps, advanced = self.steps - self.viewed_steps, self.advanced - self.viewed_advanced
        self.viewed_steps, self.viewed_advanced = self.steps, self.advanced
        return advanced / steps if steps else 0.0
