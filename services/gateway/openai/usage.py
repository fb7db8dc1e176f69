"""OpenAI's usage object."""

from collections.abc import Sequence
from typing import Any

from shared.contracts.gateway import Usage


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
