"""The tokens of a replica without a model: functions of prompt, seed and position alone."""

import zlib

from shared.contracts.gateway import TokenLogprob
from shared.contracts.replica import Generate


def prompt_text(request: Generate) -> str:
    """The prompt, as if the chat template were only line breaks."""
    if request.messages is not None:
        return "\n".join(message.content for message in request.messages)
    return request.prompt if request.prompt is not None else " ".join(map(str, request.prompt_token_ids or ()))


def token_at(request: Generate, position: int) -> int:
    """The token at a position: keyed by prompt, seed and position."""
    return zlib.crc32(f"{prompt_text(request)}/{request.sampling.seed}/{position}".encode()) % 10_000


def expected_text(prompt: str, seed: int, count: int) -> str:
    """The complete text generated for a prompt."""
    request = Generate(request_id="x", gateway_id="x", prompt=prompt)
    request = request.model_copy(update={"sampling": request.sampling.model_copy(update={"seed": seed})})
    return released([token_at(request, position) for position in range(count)], finished=True)


def released(tokens: list[int], *, finished: bool) -> str:
    """The text of the tokens so far: after an odd number of them the last one's is held back."""
    count = len(tokens) if finished else len(tokens) - len(tokens) % 2
    return "".join(f" w{token}" for token in tokens[:count])


def prompt_scores(prompt: str) -> tuple[TokenLogprob, ...]:
    """One for each word of a prompt; nothing predicts the first."""
    words = [word if index == 0 else f" {word}" for index, word in enumerate(prompt.split())]
    return tuple(
        TokenLogprob(token_id=index, text=word)
        if index == 0
        else TokenLogprob(token_id=index, text=word, logprob=_logprob(word, index), rank=index)
        for index, word in enumerate(words)
    )


def token_score(token: int, position: int) -> TokenLogprob:
    """Of a generated token."""
    return TokenLogprob(token_id=token, text=f" w{token}", logprob=_logprob(str(token), position))


def _logprob(word: str, position: int) -> float:
    return -(zlib.crc32(f"{word}/{position}".encode()) % 1000) / 128
