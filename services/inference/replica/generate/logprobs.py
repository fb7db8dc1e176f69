"""Log probabilities of tokens with their texts, as frames carry them."""

from collections.abc import Sequence

from services.inference.engine.sampling.params import TokenScore
from services.inference.text.token_texts import TokenTexts
from shared.contracts.gateway import ScoredToken, TokenLogprob


def token_logprobs(
    scores: Sequence[TokenScore], token_texts: TokenTexts, *, stripped_index: int | None = None
) -> tuple[TokenLogprob, ...]:
    """The log probabilities of consecutive tokens.

    Args:
        scores: The engine's.
        token_texts: Their texts.
        stripped_index: Index of the token whose leading space is not part of the text, nor that of its alternatives.
    """
    logprobs = (_token_logprob(score, token_texts) for score in scores)
    return tuple(
        _without_leading_space(each) if index == stripped_index else each for index, each in enumerate(logprobs)
    )


def _without_leading_space(score: TokenLogprob) -> TokenLogprob:
    top = tuple(each.model_copy(update=_without_space(each)) for each in score.top)
    return score.model_copy(update={**_without_space(score), "top": top})


def _without_space(token: ScoredToken) -> dict[str, object]:
    data = token.bytes
    return {
        "text": token.text.removeprefix(" "),
        "bytes": data[1:] if data is not None and data[:1] == (ord(" "),) else data,
    }


def _token_logprob(score: TokenScore, token_texts: TokenTexts) -> TokenLogprob:
    text, data = token_texts.text_and_bytes(score.token)
    top = tuple(_scored_token(token, logprob, token_texts) for token, logprob in score.top)
    return TokenLogprob(token_id=score.token, text=text, bytes=data, logprob=score.logprob, top=top, rank=score.rank)


def _scored_token(token: int, logprob: float, token_texts: TokenTexts) -> ScoredToken:
    text, data = token_texts.text_and_bytes(token)
    return ScoredToken(token_id=token, text=text, bytes=data, logprob=logprob)
