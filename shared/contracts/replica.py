"""What a replica takes and tells. Subjects carry the replica's id."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Name

LOAD_REPORT_S = 0.5
"""A replica publishes its load this often; silence for `LEASE_TTL_S` means that it is gone."""


class ChatMessage(Contract):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    name: str | None = None


class Sampling(Contract):
    """How tokens are chosen and when an answer ends. Names are OpenAI's and vLLM's."""

    max_tokens: int | None = Field(default=None, ge=1)
    """None: as many as fit in the slot after the prompt."""
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    """0 is greedy."""
    top_k: int = Field(default=0, ge=0)
    """0: off."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """Randomness is keyed by (seed, position), so a resumed stream is the stream it would have been."""
    stop: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=(), max_length=16)
    ignore_eos: bool = False


class Generate(Contract):
    """Start a generation. Answered at once with `Accepted` or a typed error; tokens follow as frames.

    Exactly one of `messages`, `prompt` and `prompt_token_ids` is given.
    """

    request_id: str
    gateway_id: Name
    """Frames go to `frames_subject(gateway_id)`."""
    messages: tuple[ChatMessage, ...] | None = None
    prompt: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    resume_token_ids: tuple[int, ...] = ()
    """Tokens that a lost replica had generated: they count as generated, and are not sent again."""
    sampling: Sampling = Sampling()
    deadline_ms: int | None = None
    """Unix time in milliseconds after which nobody waits any more."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "Generate":
        given = [self.messages is not None, self.prompt is not None, self.prompt_token_ids is not None]
        if sum(given) != 1:
            msg = "exactly one of messages, prompt and prompt_token_ids is expected"
            raise ValueError(msg)
        return self


class Accepted(Contract):
    """The replica will answer; frames follow."""

    prompt_tokens: int


class Cancel(Contract):
    """Stop a generation and free its slot within one step. Unknown ids are ignored."""

    request_id: str


class LoadReport(Contract):
    """How busy a replica is; published on `load_subject(replica_id)`."""

    replica_id: Name
    deployment: Name
    model: Name
    version: int
    running: int
    """Sequences in slots."""
    waiting: int
    """Sequences in the queue."""
    queued_tokens: int
    """Prompt tokens not yet computed, running and waiting."""
    free_slots: int
    slots: int
    max_len: int
    draining: bool = False
    steps: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    max_batch: int = 0
    """Largest number of sequences that one step has advanced so far."""
    mean_batch: float = 0.0
    """Sequences per step, mean since the last report."""
    rejected: int = 0
    cancelled: int = 0


def generate_endpoint(replica_id: str) -> Endpoint[Generate, Accepted]:
    """`generate` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.generate", Generate, Accepted)


def cancel_endpoint(replica_id: str) -> Endpoint[Cancel, Empty]:
    """`cancel` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.cancel", Cancel, Empty)


def drain_endpoint(replica_id: str) -> Endpoint[Empty, Empty]:
    """`drain` of one replica: it takes nothing new, finishes what it has, and exits."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.drain", Empty, Empty)


def load_subject(replica_id: str) -> str:
    """Where a replica publishes its `LoadReport`; `>` matches all (a dot in an id makes a token)."""
    return f"llmos.v1.load.{replica_id}"


ChatMessage.EXAMPLE = ChatMessage(role="user", content="What is the capital of France?")
Sampling.EXAMPLE = Sampling(max_tokens=64, temperature=0.0)
Generate.EXAMPLE = Generate(
    request_id="req-1", gateway_id="gateway-1", messages=(ChatMessage.EXAMPLE,), sampling=Sampling.EXAMPLE
)
Accepted.EXAMPLE = Accepted(prompt_tokens=37)
Cancel.EXAMPLE = Cancel(request_id="req-1")
LoadReport.EXAMPLE = LoadReport(
    replica_id="smollm2-1-x7k2",
    deployment="smollm2",
    model="smollm2",
    version=1,
    running=3,
    waiting=0,
    queued_tokens=0,
    free_slots=13,
    slots=16,
    max_len=4096,
)
