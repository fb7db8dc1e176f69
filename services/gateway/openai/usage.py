"""OpenAI's usage object."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from shared.contracts.gateway import Frame, Usage
from shared.contracts.replica import Accepted


def usage_object(usages: Sequence[Usage], per_prompt: int = 1) -> dict[str, Any]:
    """The sum over the completions of one request.

    Args:
        usages: Of all completions, ordered by prompt.
        per_prompt: Completions of each prompt; the tokens of a prompt count once.
    """
    first = usages[::per_prompt]
    prompt = sum(usage.prompt_tokens for usage in first)
    completion = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in first)},
    }


class RunningUsage:
    """The usage of each choice of a stream so far: vLLM's `continuous_usage_stats`.

    Args:
        prompt: The prompt of a choice that has begun.
    """

    def __init__(self, prompt: Callable[[int], Accepted]) -> None:
        self._prompt = prompt
        self._generated: Counter[int] = Counter()

    def of(self, index: int) -> dict[str, Any]:
        """A chunk's field for a choice."""
        prompt, completion = self._prompt(index).prompt_tokens, self._generated[index]
        total = prompt + completion
        return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}}

    def after(self, index: int, frame: Frame) -> dict[str, Any]:
        """The same, with the tokens of the choice's next frame."""
        self._generated[index] += len(frame.token_ids)
        return self.of(index)
