"""What a replica takes and tells. Subjects carry the replica's id."""

from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Name
from shared.contracts.sampling import Sampling as Sampling  # noqa: PLC0414  # a part of `Generate`


class ToolCall(Contract):
    """A call that an assistant's message made."""

    id: str
    name: str
    arguments: str
    """A JSON object as text."""


class ChatMessage(Contract):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's message."""
    tool_call_id: str | None = None
    """Of a tool's message: the call that it answers."""


class Tool(Contract):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: str = "{}"
    """A JSON schema as text: its order of keys is the order in which the model writes them."""
    strict: bool = False
    """Whether a keyword of `parameters` that can't be enforced is an error; otherwise it is left to the model."""


class ToolChoice(Contract):
    """Which tools an answer calls."""

    mode: Literal["none", "auto", "required"] = "auto"
    """`auto` leaves it to the model; with `required` the answer is a call."""
    name: str | None = None
    """With `required`: the one tool to call."""
    allowed: tuple[str, ...] | None = None
    """The tools that may be called, though the prompt shows all of them. None: all."""
    parallel: bool = True
    """Whether an answer may have several calls."""


class Grammar(Contract):
    """What the whole answer must match."""

    kind: Literal["json_object", "json_schema", "regex", "choice", "lark"]
    value: str = ""
    """A JSON schema, a regular expression, a JSON list of strings, or a grammar in llguidance's Lark dialect."""
    strict: bool = True
    """Whether a keyword of a JSON schema that can't be enforced is an error; otherwise it is left to the model."""
    param: str = "response_format"
    """The field of the client's request that errors name."""


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
    return_prompt: bool = False
    """Whether `Accepted` carries the prompt's token ids and text."""
    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    """With `messages`; not with `grammar`, unless `tool_choice.mode` is none."""
    tool_choice: ToolChoice = ToolChoice()
    deadline_ms: int | None = None
    """Unix time in milliseconds after which nobody waits any more."""
    tenant: str = ""
    """Who asks: the API key's id. Tenants take turns, and share the room in the queue."""
    cache_salt: str = Field(default="", max_length=256)
    """Prompts share their beginnings in the prefix cache only with prompts of the same salt."""

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
    prompt_token_ids: tuple[int, ...] | None = None
    """With `Generate.return_prompt` only, like the text."""
    prompt_text: str | None = None


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
    """Those of them that did follow; `generated_tokens` has them as well."""
    wait_s: float = 0.0
    """Seconds that a request of a tenant with nothing in the queue would probably wait."""


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


ToolCall.EXAMPLE = ToolCall(id="call_1f", name="weather", arguments='{"city": "Paris"}')
Tool.EXAMPLE = Tool(
    name="weather", parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
)
ToolChoice.EXAMPLE = ToolChoice(mode="required", name="weather")
Grammar.EXAMPLE = Grammar(kind="regex", value="(yes|no)", param="structured_outputs.regex")
ChatMessage.EXAMPLE = ChatMessage(role="user", content="What is the capital of France?")
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
