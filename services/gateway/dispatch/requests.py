"""Requests to be dispatched, with what is common to every dialect of the API."""

from dataclasses import dataclass, replace

from shared.contracts.manifest import Task
from shared.contracts.replica import FurtherAnswer, Generate, Grammar, TemplateOptions, Tool, ToolChoice
from shared.contracts.sampling import Sampling

AUTO = ToolChoice()
RENDERED = TemplateOptions()


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request."""

    tenant: str = ""
    """The API key's id; empty without authentication."""
    cache_salt: str = ""
    """Prompts share the prefix cache only with prompts of the same tenant and salt."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The structure of the generated text, and what is returned beside it."""

    grammar: Grammar | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = AUTO
    template: TemplateOptions = RENDERED
    """How a conversation is rendered."""
    return_prompt: bool = False
    """Whether the prompt's token ids and text are returned."""
    clip_max_tokens: bool = False
    """Whether a `max_tokens` that does not fit after the prompt stands for all that fit."""

    @property
    def size(self) -> int:
        """Characters of all schemas and grammars."""
        tools = sum(len(tool.parameters) + len(tool.description or "") for tool in self.tools)
        return tools + len(self.template.variables) + (0 if self.grammar is None else len(self.grammar.value))


ANONYMOUS = Caller()
FREE_TEXT = OutputOptions()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one generation."""

    deployment: str
    generate: Generate
    deadline: float
    """Seconds on the monotonic clock."""
    prompt_bytes: int

    def further(self, request_id: str, sampling: Sampling) -> "GenerationRequest":
        """Another answer to the same prompt. `sampling` differs in its seed and in `prompt_logprobs` only."""
        return replace(
            self, generate=self.generate.model_copy(update={"request_id": request_id, "sampling": sampling})
        )

    def as_further(self) -> FurtherAnswer:
        """As a part of the request for the first answer."""
        sampling = self.generate.sampling
        return FurtherAnswer(
            request_id=self.request_id,
            seed=sampling.seed or 0,
            prompt_logprobs=sampling.prompt_logprobs is not None,
        )

    def goes_with(self, other: "GenerationRequest") -> bool:
        """Whether `other` is another answer to the same prompt."""
        mine, its = self.generate, other.generate
        return (
            mine.messages is its.messages
            and mine.prompt is its.prompt
            and mine.prompt_token_ids is its.prompt_token_ids
            and mine.speech is its.speech
        )

    def time_left(self, now: float) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self.deadline - now)

    @property
    def request_id(self) -> str:
        """The id of the request; later attempts have ids derived from it."""
        return self.generate.request_id

    @property
    def tokens(self) -> int:
        """Tokens of the prompt: exact where ids were given, otherwise estimated as four bytes each."""
        ids = self.generate.prompt_token_ids
        return len(ids) if ids is not None else self.prompt_bytes // 4 + 1


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """Where a request with one answer goes, and its size."""

    request_id: str
    deployment: str
    task: Task
    tokens: int
    """An estimate."""
    deadline: float
    """Seconds on the monotonic clock."""
    of: tuple[str, int] | None = None
    """Only a replica of this (model, version). None: any."""

    def time_left(self, now: float) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self.deadline - now)
