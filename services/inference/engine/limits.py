"""How much the engine takes on."""

from dataclasses import dataclass

from shared.contracts.serving import DRAFT_TOKENS
from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of a step, of the queue and of the prefix cache."""

    step_tokens: int = 192
    """Tokens that one step computes at most. A step lasts about as long as these tokens take to prefill, and every
    running stream waits for it."""
    prefill_chunk: int = 64
    """Tokens of one prompt that a step computes at most, and tokens of a block of the prefix cache. Fixed, so that a
    prompt is cut at the same places whatever else runs: its numbers do not depend on its neighbours. (Where they do
    not depend on its cuts either, a short rest goes with the chunk before, a prompt beside which no stream waits
    is one chunk as far as it fits a step, and a chunk that would take longer than `step_s` is cut.) Larger chunks are
    hardly faster: on two cores, SmolLM2 prefills at the same speed within 5 % in chunks of 32 to 256."""
    least_piece: int = 8
    """Prompt tokens that a step always computes, however slow the model is, where a chunk may be cut."""
    max_waiting: int = 64
    """Sequences that may wait for a slot. A tenant alone may fill half of it (see `policy.admission`)."""
    max_queued_tokens: int = 131072
    """Prompt tokens that may wait to be computed; one prompt of each tenant is always taken. As `max_waiting`, a
    tenant alone may fill half of it."""
    max_wait_s: float = 120.0
    """Seconds that a request may have to wait, by the speed measured lately; one that would wait longer is
    refused."""
    step_s: float = 0.15
    """Seconds that prompt chunks may add to a step while streams run, once the speed is known. At least `least_piece`
    tokens are computed where a chunk may be cut, and one chunk with a short rest of its prompt elsewhere."""
    cache_blocks: int = 0
    """Blocks of `prefill_chunk` tokens that the prefix cache keeps at most; 0 switches it off."""
    draft_tokens: int = DRAFT_TOKENS
    """Tokens that a sequence may be ahead of itself in one step, where proposals are often right (see
    `policy.draft_lengths`); 0 switches that off."""
    row_cost: float = 0.12
    """What a row adds to a step, as a part of what the step takes whatever its rows are. SmolLM2-135M in Q4_1 on two
    cores has 0.10 to 0.13 for up to 32 rows. Where it is less, fewer drafts are tried than would pay."""
    keep_slot_s: float = 10.0
    """Seconds that a free slot keeps its memory, before the system gets it back."""

    @property
    def least_prompt_tokens(self) -> int:
        """Prompt tokens that a step may always compute: a chunk, a rest of a quarter, and one for a padding row."""
        return self.prefill_chunk + self.prefill_chunk // 4 + 1

    def check(self, *, slots: int) -> None:
        """Raise InvalidInput unless all running sequences and one chunk fit in a step."""
        if self.prefill_chunk < 1 or self.step_tokens < slots + self.prefill_chunk:
            raise InvalidInput(
                f"step_tokens is {self.step_tokens}, but {slots} running sequences and a prefill chunk of "
                f"{self.prefill_chunk} need {slots + max(self.prefill_chunk, 1)}",
                param="step_tokens",
            )
