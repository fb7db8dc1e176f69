"""The one check that a text, with the answer that is to follow, fits a deployment's `max_len`."""

from shared.errors import ContextLengthExceeded


def check_context_length(
    tokens: int,
    max_tokens: int | None,
    max_len: int,
    *,
    param: str,
    text: str = "the prompt",
    at_least: bool = False,
    advice: str = "shorten the prompt",
) -> None:
    """Raise `ContextLengthExceeded`, naming all numbers, unless `tokens` and the answer fit.

    The message begins with OpenAI's sentence: clients shorten a conversation when they find it (litellm and others
    read the text, not the code).

    Args:
        tokens: Of the text.
        max_tokens: Tokens that the answer may have. None: what is left, which must be at least one.
        max_len: Tokens that the deployment takes.
        param: The field of the request that the error names.
        text: What the message calls the text.
        at_least: Whether `tokens` is a lower bound: the text was not tokenised.
        advice: What the caller can do besides deploying with a larger `max_len`.
    """
    if tokens + (1 if max_tokens is None else max_tokens) <= max_len:
        return
    count = f"{text} has {'more than ' if at_least else ''}{tokens} tokens"
    if max_tokens:
        count += f" and max_tokens is {max_tokens}: together {tokens + max_tokens}"
        advice += ", lower max_tokens"
    raise ContextLengthExceeded(
        f"This model's maximum context length is {max_len} tokens, but {count}; {advice}, or deploy with a larger"
        " max_len",
        param=param,
    )
