"""What a generating replica takes. Subjects carry the replica's id."""

from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Contract, Empty, Endpoint
from shared.contracts.manifest import Name
from shared.contracts.sampling import Sampling

Thinking = Literal["none", "may", "open"]
"""Whether an answer begins with thoughts in `<think>` tags: no, if the model likes, or they have begun already, since
the prompt ends with `<think>`."""

MAX_TOGETHER = 16
"""Answers that are asked for at once: as many as one replica has slots for by default."""


class ToolCall(Contract):
    """A call that an assistant's message made."""

    id: str
    name: str
    arguments: str
    """A JSON object as text, as a rule: a model may write anything, and an answer may have been cut."""


class ChatMessage(Contract):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's message."""
    tool_call_id: str | None = None
    """Of a tool's message: the call that it answers."""
    reasoning: str | None = None
    """Of an assistant's message: the thoughts before it, for templates that show them again."""


class TemplateOptions(Contract):
    """How the chat template is rendered."""

    variables: str = "{}"
    """A JSON object as text: what the template gets besides messages and tools."""
    add_generation_prompt: bool = True
    """Whether the prompt ends with the beginning of the assistant's message."""
    continue_final_message: bool = False
    """Whether the prompt ends with the last message, left open: the answer continues it."""


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
    """What the whole answer must match; tool calls excepted."""

    kind: Literal["json_object", "json_schema", "regex", "choice", "lark"]
    value: str = ""
    """A JSON schema, a regular expression, a JSON list of strings, or a grammar in llguidance's Lark dialect."""
    strict: bool = True
    """Whether a keyword of a JSON schema that can't be enforced is an error; otherwise it is left to the model."""
    param: str = "response_format"
    """The field of the client's request that errors name."""


class FurtherAnswer(Contract):
    """Another answer to a prompt: a request of its own, but for the prompt and what is not named here."""

    request_id: str
    seed: int = Field(ge=0, lt=1 << 64)
    prompt_logprobs: bool = False
    """Whether it comes with the prompt's log probabilities, as the first does if that asks for them."""


class Generate(Contract):
    """Start a generation. Answered at once with `Accepted` or a typed error; tokens follow as frames.

    Exactly one of `messages`, `prompt` and `prompt_token_ids` is given.
    """

    request_id: str
    gateway_id: Name
    """Frames go to `frames_subject(gateway_id)`."""
    messages: tuple[ChatMessage, ...] | None = None
    template: TemplateOptions = TemplateOptions()
    """With `messages`."""
    prompt: str | None = None
    parse_special: bool = False
    """With `prompt`: whether the control tokens spelled in it are control tokens; otherwise they are text."""
    prompt_token_ids: tuple[int, ...] | None = None
    resume_token_ids: tuple[int, ...] = ()
    """Tokens that a lost replica had generated: they count as generated, and are not sent again."""
    sampling: Sampling = Sampling()
    further: tuple[FurtherAnswer, ...] = Field(default=(), max_length=MAX_TOGETHER - 1)
    """More answers to the prompt, which so crosses the bus, is rendered and is tokenised once. All are accepted, or
    none is. Not with `resume_token_ids`."""
    return_prompt: bool = False
    """Whether `Accepted` carries the prompt's token ids and text."""
    clip_max_tokens: bool = False
    """Whether a `max_tokens` that does not fit after the prompt stands for all that fit; otherwise it is an error."""
    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    """With `messages`. Where they may be called, `grammar` is JSON, and holds for an answer without calls."""
    tool_choice: ToolChoice = ToolChoice()
    time_left_s: float | None = Field(default=None, ge=0)
    """Seconds, from the arrival of this request, after which the answer is of no use. Set at each sending: machines'
    clocks differ, so no time of day crosses the bus as a deadline."""
    tenant: str = ""
    """The id of the API key. Tenants take turns and share the queue."""
    cache_salt: str = Field(default="", max_length=256)
    """Prompts share their beginnings in the prefix cache only with prompts of the same tenant and salt."""

    @model_validator(mode="after")
    def _one_prompt(self) -> "Generate":
        given = [self.messages is not None, self.prompt is not None, self.prompt_token_ids is not None]
        if sum(given) != 1:
            msg = "exactly one of messages, prompt and prompt_token_ids is expected"
            raise ValueError(msg)
        if self.further and self.resume_token_ids:
            msg = "further answers do not go with resume_token_ids"
            raise ValueError(msg)
        return self

    def answers(self) -> "tuple[Generate, ...]":
        """Each answer as a request of its own."""
        first = self.model_copy(update={"further": ()})
        return (first, *(first.answer(each) for each in self.further))

    def answer(self, further: FurtherAnswer) -> "Generate":
        """Another answer to the prompt of this request, as a request of its own."""
        scores = self.sampling.prompt_logprobs if further.prompt_logprobs else None
        sampling = self.sampling.model_copy(update={"seed": further.seed, "prompt_logprobs": scores})
        return self.model_copy(update={"request_id": further.request_id, "sampling": sampling})


class Accepted(Contract):
    """The replica will answer; frames follow."""

    prompt_tokens: int
    prompt_token_ids: tuple[int, ...] | None = None
    """With `Generate.return_prompt` only, like the text."""
    prompt_text: str | None = None
    thinking: Thinking = "none"


class Cancel(Contract):
    """Stop a generation and free its slot within one step. Unknown ids are ignored."""

    request_id: str


def generate_endpoint(replica_id: str) -> Endpoint[Generate, Accepted]:
    """`generate` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.generate", Generate, Accepted)


def cancel_endpoint(replica_id: str) -> Endpoint[Cancel, Empty]:
    """`cancel` of one replica."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.cancel", Cancel, Empty)


def drain_endpoint(replica_id: str) -> Endpoint[Empty, Empty]:
    """`drain` of one replica: it takes nothing new, finishes what it has, and exits."""
    return Endpoint(f"llmos.v1.replica.{replica_id}.drain", Empty, Empty)


ToolCall.EXAMPLE = ToolCall(id="call_1f", name="weather", arguments='{"city": "Paris"}')
TemplateOptions.EXAMPLE = TemplateOptions(variables='{"enable_thinking": false}')
Tool.EXAMPLE = Tool(
    name="weather", parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'
)
FurtherAnswer.EXAMPLE = FurtherAnswer(request_id="req-1-1", seed=7)
ToolChoice.EXAMPLE = ToolChoice(mode="required", name="weather")
Grammar.EXAMPLE = Grammar(kind="regex", value="(yes|no)", param="structured_outputs.regex")
ChatMessage.EXAMPLE = ChatMessage(role="user", content="What is the capital of France?")
Generate.EXAMPLE = Generate(
    request_id="req-1", gateway_id="gateway-1", messages=(ChatMessage.EXAMPLE,), sampling=Sampling.EXAMPLE
)
Accepted.EXAMPLE = Accepted(prompt_tokens=37)
Cancel.EXAMPLE = Cancel(request_id="req-1")
