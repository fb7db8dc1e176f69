"""How a replica is to choose tokens: a part of `shared.contracts.replica.Generate`."""

from typing import Annotated

from pydantic import Field

from shared.contracts.base import Contract

MAX_LOGPROBS = 20
"""Likeliest tokens that are told for each place, at most: OpenAI's and vLLM's bound."""
MAX_LOGIT_BIAS = 1024
"""Entries of a logit bias, at most: vLLM's bound."""
MAX_BAD_WORDS = 512
MAX_BAD_WORD_CHARS = 128
"""Of one bad word."""
MAX_BAD_WORDS_CHARS = 8192
"""Of all bad words together: what looking for them may cost in each step."""
MAX_ALLOWED_TOKENS = 4096


class Sampling(Contract):
    """How tokens are chosen and when an answer ends. Names are OpenAI's and vLLM's.

    None stands for "not given": the version's default (`Manifest.defaults`) applies, else the value that is off.
    """

    max_tokens: int | None = Field(default=None, ge=0)
    """None: as many as fit in the slot after the prompt. 0: none, the prompt alone is computed."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """0 is greedy; 1 where nobody says."""
    top_k: int | None = Field(default=None, ge=0)
    """0: off."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """1: off."""
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    """Tokens less likely than this times the likeliest are left out; 0: off."""
    repetition_penalty: float | None = Field(default=None, gt=0.0, le=10.0)
    """Of tokens in prompt or answer: positive logits are divided by it, negative ones multiplied; 1: off."""
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    """Subtracted from the logit of each token that the answer has."""
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    """Subtracted from a token's logit as many times as the answer has it."""
    logit_bias: tuple[tuple[int, Annotated[float, Field(ge=-100.0, le=100.0)]], ...] = Field(
        default=(), max_length=MAX_LOGIT_BIAS
    )
    """(token id, what is added to its logit). An id outside the vocabulary is an error."""
    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """Randomness is keyed by (seed, position), so a resumed stream is the stream it would have been."""
    stop: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=(), max_length=16)
    include_stop_str_in_output: bool = False
    """Whether the stop string that ended the answer is part of its text."""
    stop_token_ids: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=128)
    """Tokens that end the answer like an EOS token does, also with `ignore_eos`; they are no part of its text."""
    bad_words: tuple[Annotated[str, Field(min_length=1, max_length=MAX_BAD_WORD_CHARS)], ...] = Field(
        default=(), max_length=MAX_BAD_WORDS
    )
    """The last token of one is not chosen where the answer ends with its others: as it is written at the start of a
    text, and after a space."""
    allowed_token_ids: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, min_length=1, max_length=MAX_ALLOWED_TOKENS
    )
    """The only tokens that are chosen. None: all."""
    ignore_eos: bool = False
    min_tokens: int = Field(default=0, ge=0)
    """Neither an EOS token nor one of `stop_token_ids` is chosen before so many."""
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    """k: each token comes with its log probability and those of the k likeliest in its place. None: without."""
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    """The same for the tokens of the prompt."""


Sampling.EXAMPLE = Sampling(max_tokens=64, temperature=0.0)
