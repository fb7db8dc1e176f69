"""The engine's scores as the frames carry them: with texts."""

from collections.abc import Sequence

from services.inference.engine.params import TokenScore
from services.inference.text.shown import ShownTokens
from shared.contracts.gateway import ScoredToken, TokenLogprob


def with_texts(scores: Sequence[TokenScore], shown: ShownTokens) -> tuple[TokenLogprob, ...]:
    """The scores of consecutive tokens."""
    return tuple(_told(score, shown) for score in scores)


def _told(score: TokenScore, shown: ShownTokens) -> TokenLogprob:
    text, data = shown.show(score.token)
    top = tuple(_scored(token, logprob, shown) for token, logprob in score.top)
    return TokenLogprob(token_id=score.token, text=text, bytes=data, logprob=score.logprob, top=top, rank=score.rank)


def _scored(token: int, logprob: float, shown: ShownTokens) -> ScoredToken:
    text, data = shown.show(token)
    return ScoredToken(token_id=token, text=text, bytes=data, logprob=logprob)
